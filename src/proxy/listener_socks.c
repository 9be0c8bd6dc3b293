#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/container.h"
#include "core/end.h"
#include "proxy/bridge.h"
#include "proxy/listener.h"
#include "proxy/reason.h"

/* How long a client may take to say what it wants. */
#define HANDSHAKE_MS 10000
/* How long one that was refused may take to end. */
#define LINGER_MS 2000

struct socks_client {
  struct connection *connection;
  struct link *link; /* NULL: the bridge's */
  struct loop_timer timer;
  struct socks socks;
};

static void client_free(struct connection *c) {
  struct socks_client *client = c->socks;
  c->socks = NULL;
  loop_timer_cancel(&client->timer);
  free(client);
}

void socks_cancel(struct connection *c) {
  if (c->socks == NULL)
    return;
  if (c->socks->link != NULL)
    link_reset(c->socks->link, 1);
  client_free(c);
}

static void send_reply(struct socks_client *client, struct link *link) {
  if (client->socks.out_len > 0 && link_has_control_space(link))
    link_write(link, client->socks.out, client->socks.out_len);
  client->socks.out_len = 0;
}

/* Without a stream: what was said to the client is all. */
static void client_failed(struct connection *c, enum dstream_proxy_kind kind,
                          const struct dstream_end *end) {
  struct link *link = c->socks->link;
  c->socks->link = NULL;
  client_free(c);
  link_close(link, LINGER_MS);
  connection_failed(c, kind, end);
}

/* ---- after the stream was asked for ---- */

static enum socks_reply reply_for(const struct dstream_end *why) {
  const char *text = why->text;
  switch (why->status) {
  case DSTREAM_EREJECTED:
    if (strstr(text, REASON_AGENT) != NULL)
      return SOCKS_NOT_ALLOWED;
    if (strstr(text, REASON_TARGET) == NULL)
      return SOCKS_FAILURE;
    if (strstr(text, strerror(ECONNREFUSED)) != NULL)
      return SOCKS_REFUSED;
    if (strstr(text, strerror(ENETUNREACH)) != NULL)
      return SOCKS_NETWORK_UNREACHABLE;
    return SOCKS_HOST_UNREACHABLE;
  case DSTREAM_EOFFLINE:
  case DSTREAM_ENOANSWER:
  case DSTREAM_ENOTFOUND:
    return SOCKS_HOST_UNREACHABLE;
  case DSTREAM_EUNAUTHORIZED:
    return SOCKS_NOT_ALLOWED;
  default:
    return SOCKS_FAILURE;
  }
}

static bool on_hello(void *user, struct link *link,
                     const struct dstream_end *why) {
  struct connection *c = user;
  if (c->socks == NULL)
    return false;
  socks_answer(&c->socks->socks,
               why == NULL ? SOCKS_SUCCEEDED : reply_for(why));
  send_reply(c->socks, link);
  client_free(c);
  return true;
}

static void join(struct connection *c) {
  struct socks_client *client = c->socks;
  char name[ADDRESS_NAME_SIZE];
  char shown[ADDRESS_TEXT_SIZE];
  struct dstream_end end;
  loop_timer_cancel(&client->timer);
  address_format(&client->socks.target, shown);
  c->name = strdup(shown);
  int status = c->name == NULL ? DSTREAM_ENOMEM
                               : address_to_name(&client->socks.target, name);
  if (status == DSTREAM_OK)
    status = bridge_adopt_link(&c->bridge, c->listener->loop, client->link,
                               &c->listener->bridge, &connection_callbacks, c);
  if (status == DSTREAM_OK) {
    client->link = NULL;
    bridge_on_hello(c->bridge, on_hello);
    connection_open(c, name);
    return;
  }
  end_set(&end, status, "can't ask for %s: %s", shown,
          status == DSTREAM_EINVAL ? "it is too long"
                                   : dstream_status_text(status));
  socks_answer(&client->socks, SOCKS_FAILURE);
  send_reply(client, client->link);
  client_failed(c, DSTREAM_PROXY_REFUSED, &end);
}

/* ---- before ---- */

static size_t on_data(void *user, uint8_t *data, size_t len) {
  struct connection *c = user;
  struct socks_client *client = c->socks;
  size_t used = socks_feed(&client->socks, data, len);
  send_reply(client, client->link);
  if (client->socks.state == SOCKS_ASKED) {
    join(c);
  } else if (client->socks.state == SOCKS_FAILED) {
    struct dstream_end end;
    end_set(&end, client->socks.error.status, "client%s%s: %.180s",
            c->client[0] != '\0' ? " " : "", c->client,
            client->socks.error.text);
    client_failed(c, DSTREAM_PROXY_REFUSED, &end);
    return len;
  }
  return used;
}

static size_t room(void *user) {
  (void)user;
  return SOCKS_MESSAGE_MAX;
}

static void on_end(void *user, const struct dstream_end *why) {
  struct connection *c = user;
  struct dstream_end end;
  end_set(&end, why == NULL ? DSTREAM_ECLOSED : why->status,
          "client%s%s: it went before it said what it wants",
          c->client[0] != '\0' ? " " : "", c->client);
  socks_cancel(c);
  connection_failed(c, DSTREAM_PROXY_REFUSED, &end);
}

static void on_timer(struct loop_timer *timer) {
  struct socks_client *client = CONTAINER_OF(timer, struct socks_client, timer);
  struct connection *c = client->connection;
  struct dstream_end end;
  end_set(&end, DSTREAM_ETIMEDOUT, "client%s%s: no SOCKS request within %d s",
          c->client[0] != '\0' ? " " : "", c->client, HANDSHAKE_MS / 1000);
  socks_cancel(c);
  connection_failed(c, DSTREAM_PROXY_REFUSED, &end);
}

int socks_begin(struct connection *c, int fd) {
  static const struct link_callbacks callbacks = {
      .on_data = on_data, .room = room, .on_end = on_end};
  dstream_loop *loop = c->listener->loop;
  struct link_options options;
  bridge_link_options(&c->listener->bridge, &options);
  struct socks_client *client = calloc(1, sizeof *client);
  if (client == NULL) {
    close(fd);
    return DSTREAM_ENOMEM;
  }
  client->connection = c;
  int status = link_adopt(&client->link, loop, fd, &options, &callbacks, c);
  if (status != DSTREAM_OK) {
    free(client);
    return status;
  }
  c->socks = client;
  loop_timer_set(loop, &client->timer, HANDSHAKE_MS, on_timer);
  return DSTREAM_OK;
}
