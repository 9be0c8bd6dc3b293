#include "tools/hub_client.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/crypto.h"
#include "core/end.h"
#include "core/percent.h"
#include "core/sas.h"
#include "net/http_call.h"
#include "service/hub_reply.h"
#include "tools/explain.h"
#include "tools/human.h"

#define TOKEN_LIFE_S 300
#define REQUEST_MAX  8192
#define TARGET_MAX   2048
#define TRIES_MAX    3
#define AGAIN_MAX_S  5
#define PAGES_MAX    100000

/* ---- life ---- */

void hub_client_stop(struct hub_client *client) {
  client->stopped = true;
  dstream_loop_stop(client->session.loop);
}

static void on_signal(void *user, int number) {
  struct hub_client *client = user;
  client->signal = number;
  hub_client_stop(client);
}

static int open_parts(struct hub_client *client,
                      const struct common_options *common, const char *text) {
  struct dstream_tls_options tls = {.size = sizeof tls,
                                    .ca_file = cli_ca_file(&common->source)};
  struct dstream_end end = {0};
  int status = conn_string_parse(&client->hub, text, CONN_STRING_SERVICE, &end);
  if (status == DSTREAM_OK)
    status = link_proxy_parse(&client->proxy, common->http_proxy, &end);
  if (status == DSTREAM_OK)
    status = tls_config_client(&client->tls, &tls, &end);
  if (status == DSTREAM_OK) {
    snprintf(client->session.hub, sizeof client->session.hub, "%.255s:%u",
             client->hub.host, (unsigned)client->hub.https_port);
    return CLI_DONE;
  }
  end.status = status;
  cli_failed(&end);
  return status == DSTREAM_ENOMEM || status == DSTREAM_ESYSTEM ? CLI_FAILED
                                                               : CLI_USAGE;
}

int hub_client_open(struct hub_client *client, struct common_options *common) {
  char *text = NULL;
  int status =
      session_open_loop(&client->session, common, on_signal, client, &text);
  if (status == CLI_DONE)
    status = open_parts(client, common, text);
  if (common->http_proxy != NULL)
    cli_hide(common->http_proxy);
  cli_forget(text);
  return status;
}

void hub_client_close(struct hub_client *client) {
  http_pool_clear(&client->pool);
  session_close(&client->session);
  tls_config_free(client->tls);
  client->tls = NULL;
  conn_string_clear(&client->hub);
  crypto_wipe(&client->proxy, sizeof client->proxy);
}

int hub_client_finish(struct hub_client *client, int status) {
  hub_client_close(client);
  if (client->signal != 0)
    session_die(client->signal);
  return status == CLI_DONE ? cli_printed() : status;
}

/* ---- waiting ---- */

struct pause {
  struct loop_timer timer; /* first: on_pause_over */
  bool over;
};

static void on_pause_over(struct loop_timer *timer) {
  ((struct pause *)timer)->over = true;
  dstream_loop_stop(timer->loop);
}

bool hub_client_pause(struct hub_client *client, uint64_t ms) {
  struct pause pause = {.over = false};
  loop_timer_set(client->session.loop, &pause.timer, ms, on_pause_over);
  while (!pause.over && !client->stopped)
    dstream_loop_run(client->session.loop);
  loop_timer_cancel(&pause.timer);
  return !client->stopped;
}

/* ---- one call ---- */

struct asking {
  bool done;
  unsigned again_s; /* Retry-After */
  dstream_loop *loop;
  struct hub_answer *answer;
};

static unsigned retry_after(const struct http_head *head) {
  char text[16] = "";
  unsigned seconds = 1;
  struct slice value = http_head_get(head, "Retry-After");
  if (value.p != NULL && value.len < sizeof text)
    memcpy(text, value.p, value.len);
  if (!cli_number(text, 1, AGAIN_MAX_S, &seconds))
    seconds = 1;
  return seconds;
}

static void read_answer(struct hub_answer *answer, const struct http_head *head,
                        const char *body, size_t body_len) {
  struct slice next = http_head_get(head, "x-ms-continuation");
  if (next.p != NULL && next.len < sizeof answer->continuation)
    memcpy(answer->continuation, next.p, next.len);
  if (body_len == 0)
    return;
  answer->json = cJSON_ParseWithLength(body, body_len);
  if (!cJSON_IsObject(answer->json) && !cJSON_IsArray(answer->json))
    end_set(&answer->end, DSTREAM_EHTTP, "the hub's answer is no JSON");
}

static void on_answer(void *user, const struct http_head *head,
                      const char *body, size_t body_len,
                      const struct dstream_end *error) {
  struct asking *asking = user;
  asking->done = true;
  dstream_loop_stop(asking->loop);
  if (error != NULL) {
    asking->answer->end = *error;
  } else if (head->status / 100 != 2) {
    hub_reply_error(head, body, body_len, &asking->answer->end);
    asking->again_s = retry_after(head);
  } else {
    read_answer(asking->answer, head, body, body_len);
  }
}

static int make_request(const struct hub_client *client,
                        const struct hub_question *q, char *out, size_t size) {
  char authorization[SAS_MAX];
  char port[8] = "";
  int status = sas_make(authorization, sizeof authorization, client->hub.host,
                        client->hub.key, client->hub.key_len,
                        (uint64_t)time(NULL) + TOKEN_LIFE_S, client->hub.policy,
                        SAS_ENCODED_RESOURCE);
  if (status < 0)
    return status;
  if (client->hub.https_port != CONN_STRING_HTTPS_PORT)
    snprintf(port, sizeof port, ":%u", (unsigned)client->hub.https_port);
  const char *body = q->body != NULL ? q->body : "";
  int n = snprintf(out, size,
                   "%s %s HTTP/1.1\r\n"
                   "Host: %s%s\r\n"
                   "Authorization: %s\r\n"
                   "User-Agent: dstream/" DSTREAM_VERSION "\r\n"
                   "Accept: application/json\r\n"
                   "%s%s"
                   "Content-Length: %zu\r\n\r\n%s",
                   q->method, q->target, client->hub.host, port, authorization,
                   q->headers != NULL ? q->headers : "",
                   q->body != NULL ? "Content-Type: application/json\r\n" : "",
                   strlen(body), body);
  crypto_wipe(authorization, sizeof authorization);
  return n > 0 && (size_t)n < size ? DSTREAM_OK : DSTREAM_ELIMIT;
}

static int start(struct hub_client *client, const struct hub_question *q,
                 struct asking *asking, struct http_call **call) {
  char request[REQUEST_MAX];
  int status = make_request(client, q, request, sizeof request);
  if (status != DSTREAM_OK)
    return status;
  const struct http_call_options options = {
      .host = client->hub.gateway_host != NULL ? client->hub.gateway_host
                                               : client->hub.host,
      .port = client->hub.https_port,
      .tls = client->tls,
      .proxy = &client->proxy,
      .pool = &client->pool,
      .request = request,
      .timeout_ms = q->timeout_ms,
  };
  status =
      http_call_start(call, client->session.loop, &options, on_answer, asking);
  crypto_wipe(request, sizeof request);
  return status;
}

static void ask_once(struct hub_client *client, const struct hub_question *q,
                     struct asking *asking) {
  struct http_call *call = NULL;
  struct dstream_end *end = &asking->answer->end;
  int status = start(client, q, asking, &call);
  if (status != DSTREAM_OK) {
    end_set(end, status, "can't call the hub %s: %s", client->hub.host,
            dstream_status_text(status));
    return;
  }
  while (!asking->done && !client->stopped)
    dstream_loop_run(client->session.loop);
  if (!asking->done) {
    http_call_cancel(call);
    end_set(end, DSTREAM_ECANCELED, "stopped");
  }
}

static bool worth_again(const struct dstream_end *end, const char *method) {
  return strcmp(method, "GET") == 0 &&
         (end->http_status == 429 || end->http_status == 503);
}

int hub_client_ask(struct hub_client *client,
                   const struct hub_question *question,
                   struct hub_answer *answer) {
  for (unsigned tries = 1;; tries++) {
    struct asking asking = {.loop = client->session.loop, .answer = answer};
    memset(answer, 0, sizeof *answer);
    ask_once(client, question, &asking);
    if (tries == TRIES_MAX || !worth_again(&answer->end, question->method) ||
        !hub_client_pause(client, (uint64_t)asking.again_s * 1000))
      break;
  }
  if (answer->end.status != DSTREAM_OK) {
    cJSON_Delete(answer->json);
    answer->json = NULL;
  }
  return answer->end.status;
}

int hub_client_call(struct hub_client *client, const char *method,
                    const char *target, uint64_t timeout_ms, cJSON **out,
                    struct dstream_end *end) {
  const struct hub_question question = {
      .method = method, .target = target, .timeout_ms = timeout_ms};
  struct hub_answer answer;
  hub_client_ask(client, &question, &answer);
  *end = answer.end;
  if (out == NULL) {
    cJSON_Delete(answer.json);
  } else if (end->status == DSTREAM_OK && answer.json == NULL) {
    end_set(end, DSTREAM_EHTTP, "the hub's answer is empty");
  } else if (end->status == DSTREAM_OK) {
    *out = answer.json;
  }
  return end->status;
}

/* ---- lists ---- */

/* Moves the items of a page.  False: there are none. */
static bool take_page(cJSON *page, const char *member, cJSON *all) {
  cJSON *items = cJSON_GetObjectItemCaseSensitive(page, member);
  if (!cJSON_IsArray(items))
    return false;
  while (items->child != NULL)
    cJSON_AddItemToArray(all, cJSON_DetachItemViaPointer(items, items->child));
  return true;
}

static int make_target(char out[TARGET_MAX], const char *path,
                       const char *query, const char *cursor) {
  char encoded[1024];
  if (percent_encode(slice_of(cursor), encoded, sizeof encoded) < 0)
    return DSTREAM_EHTTP;
  int n = snprintf(out, TARGET_MAX, "%s?limit=100%s%s%s%s", path,
                   query[0] != '\0' ? "&" : "", query,
                   cursor[0] != '\0' ? "&cursor=" : "", encoded);
  return n > 0 && n < TARGET_MAX ? DSTREAM_OK : DSTREAM_ELIMIT;
}

/* One page; cursor: of the next, or "". */
static int list_page(struct hub_client *client, const char *target,
                     const char *member, cJSON *all, char *cursor, size_t size,
                     struct dstream_end *end) {
  cJSON *page = NULL;
  int status =
      hub_client_call(client, "GET", target, HUB_CLIENT_TIMEOUT_MS, &page, end);
  if (status != DSTREAM_OK)
    return status;
  const char *next = hub_text(page, "cursor");
  bool ok = take_page(page, member, all) && strlen(next) < size &&
            (next[0] == '\0' || strcmp(next, cursor) != 0);
  if (ok)
    snprintf(cursor, size, "%s", next);
  else
    end_set(end, DSTREAM_EHTTP, "the hub's answer has no good list of %s",
            member);
  cJSON_Delete(page);
  return end->status;
}

int hub_client_list(struct hub_client *client, const char *path,
                    const char *query, const char *member, cJSON **out,
                    struct dstream_end *end) {
  char target[TARGET_MAX];
  char cursor[300] = "";
  cJSON *all = cJSON_CreateArray();
  end_set(end, all == NULL ? DSTREAM_ENOMEM : DSTREAM_OK, "out of memory");
  for (unsigned page = 0; end->status == DSTREAM_OK; page++) {
    int status = page == PAGES_MAX ? DSTREAM_ELIMIT
                                   : make_target(target, path, query, cursor);
    if (status != DSTREAM_OK) {
      end_set(end, status, "the hub's list of %s has no end", member);
      break;
    }
    if (list_page(client, target, member, all, cursor, sizeof cursor, end) !=
            DSTREAM_OK ||
        cursor[0] == '\0')
      break;
  }
  if (end->status == DSTREAM_OK)
    *out = all;
  else
    cJSON_Delete(all);
  return end->status;
}

/* ---- telling ---- */

void hub_client_explain(const struct dstream_end *end,
                        char line[HUB_CLIENT_LINE_SIZE]) {
  if (end->http_status == 404)
    snprintf(
        line, HUB_CLIENT_LINE_SIZE,
        "the hub does not know this question: %s; is it a dstream-hub, and "
        "as new as this program?",
        end->text);
  else if (end->http_status == 401 && strstr(end->text, "expired") == NULL)
    snprintf(line, HUB_CLIENT_LINE_SIZE,
             "the hub refused the connection string: %s; its policy must have "
             "the right ServiceConnect, or RegistryRead to look only; "
             "\"dstream-hub connection-string\" prints one",
             end->text);
  else
    explain(line, end, "the device", "the stream");
}

int hub_client_failed(const struct dstream_end *end) {
  char line[HUB_CLIENT_LINE_SIZE];
  if (end->status == DSTREAM_ECANCELED)
    return CLI_FAILED;
  hub_client_explain(end, line);
  cli_say("%s", line);
  return CLI_FAILED;
}

int hub_client_no_memory(void) {
  cli_say("%s", dstream_status_text(DSTREAM_ENOMEM));
  return CLI_FAILED;
}

void hub_query_device(char out[HUB_QUERY_SIZE], const char *device) {
  char encoded[HUB_QUERY_SIZE - 8];
  out[0] = '\0';
  if (device != NULL &&
      percent_encode(slice_of(device), encoded, sizeof encoded) > 0)
    snprintf(out, HUB_QUERY_SIZE, "device=%s", encoded);
}

/* ---- what is in an answer ---- */

const char *hub_text(const cJSON *object, const char *name) {
  const char *text =
      cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
  return text != NULL ? text : "";
}

uint64_t hub_number(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  bool good = cJSON_IsNumber(item) && item->valuedouble >= 0 &&
              item->valuedouble < 9e18;
  return good ? (uint64_t)item->valuedouble : 0;
}

bool hub_flag(const cJSON *object, const char *name) {
  return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name)) != 0;
}

void hub_device(const cJSON *object, char out[HUB_DEVICE_SIZE]) {
  const char *module = hub_text(object, "moduleId");
  snprintf(out, HUB_DEVICE_SIZE, "%.128s%s%.128s", hub_text(object, "deviceId"),
           module[0] != '\0' ? "/" : "", module);
}

int64_t hub_time_ms(const cJSON *object, const char *name) {
  int64_t ms = 0;
  return human_read_time(hub_text(object, name), &ms) ? ms : 0;
}

bool hub_print_json(const cJSON *json) {
  char *text = cJSON_PrintUnformatted(json);
  if (text == NULL)
    return false;
  puts(text);
  cJSON_free(text);
  return true;
}

int64_t hub_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
