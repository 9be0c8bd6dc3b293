/* tools/hub_client.h - what operators ask a hub by REST (hub/rest_admin.h).
 *
 * One call at a time, which runs the loop until it is answered, or until a
 * signal or hub_client_stop ends it.
 */
#ifndef TOOLS_HUB_CLIENT_H
#define TOOLS_HUB_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include <dstream/status.h>

#include "core/conn_string.h"
#include "net/http_pool.h"
#include "net/link_proxy.h"
#include "net/tls.h"
#include "tools/dstream_common.h"

/* Zeroed at first; not copied or moved while it is open. */
struct hub_client {
  struct session session;
  struct conn_string hub;
  struct tls_config *tls;
  struct link_proxy proxy;
  struct http_pool pool;
  bool stopped; /* every call and pause ends now */
  int signal;   /* that stopped it */
};

/* CLI_DONE, or the exit status after a line on stderr; hub_client_close in any
 * case. */
int hub_client_open(struct hub_client *client, struct common_options *common);
void hub_client_close(struct hub_client *client);

void hub_client_stop(struct hub_client *client);

/* Runs the loop for so long.  False: it was stopped. */
bool hub_client_pause(struct hub_client *client, uint64_t ms);

#define HUB_CLIENT_TIMEOUT_MS 20000

/* target: path and query, encoded.  *out (NULL: not wanted): the answer's JSON,
 * for cJSON_Delete.  A GET that met a limit or a hub that is just starting is
 * repeated twice.  0; DSTREAM_ECANCELED: it was stopped; else *end says why. */
int hub_client_call(struct hub_client *client, const char *method,
                    const char *target, uint64_t timeout_ms, cJSON **out,
                    struct dstream_end *end);

/* The same in full. */
struct hub_question {
  const char *method;
  const char *target;
  const char *headers; /* more of them, each with its CRLF; NULL: none */
  const char *body;    /* JSON; NULL: none */
  uint64_t timeout_ms;
};
#define HUB_CONTINUATION_SIZE 200
struct hub_answer {
  cJSON *json;                              /* NULL: none came */
  char continuation[HUB_CONTINUATION_SIZE]; /* x-ms-continuation: what follows;
                                               "": no more */
  struct dstream_end end;
};
int hub_client_ask(struct hub_client *client,
                   const struct hub_question *question,
                   struct hub_answer *answer);

/* All pages of a list: GET path, with &query ("": none); *out: an array of
 * what is in `member` of each page. */
int hub_client_list(struct hub_client *client, const char *path,
                    const char *query, const char *member, cJSON **out,
                    struct dstream_end *end);

/* The line for a failed call, and what to do. */
#define HUB_CLIENT_LINE_SIZE 768
void hub_client_explain(const struct dstream_end *end,
                        char line[HUB_CLIENT_LINE_SIZE]);

/* Prints that line, unless the call was stopped (DSTREAM_ECANCELED);
 * CLI_FAILED.
 */
int hub_client_failed(const struct dstream_end *end);

/* The same for want of memory. */
int hub_client_no_memory(void);

/* The end of a command: closes the client; ends the process when a signal ended
 * it, as the shell expects; else status, or CLI_FAILED when stdout could not be
 * written. */
int hub_client_finish(struct hub_client *client, int status);

/* "device=ID", encoded; "" for NULL. */
#define HUB_QUERY_SIZE 800
void hub_query_device(char out[HUB_QUERY_SIZE], const char *device);

/* ---- what is in an answer ---- */

/* "" where there is no such text; 0; false. */
const char *hub_text(const cJSON *object, const char *name);
uint64_t hub_number(const cJSON *object, const char *name);
bool hub_flag(const cJSON *object, const char *name);

/* deviceId, or deviceId/moduleId. */
#define HUB_DEVICE_SIZE 260
void hub_device(const cJSON *object, char out[HUB_DEVICE_SIZE]);

/* Milliseconds since 1970 of a time; 0: there is none. */
int64_t hub_time_ms(const cJSON *object, const char *name);

/* Prints it on one line; false: out of memory. */
bool hub_print_json(const cJSON *json);

/* The present, in milliseconds since 1970. */
int64_t hub_now_ms(void);

#endif
