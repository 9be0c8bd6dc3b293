#include "net/mqtt.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <MQTTAsync.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/percent.h"
#include "net/mqtt_worker.h"

#define CLOSE_MS   2000
#define EXPLAIN_MS 10000
/* TLS 1.3, and of 1.2 what is as good: Paho has no setting for the version. */
#define SUITES "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"

enum letter_kind {
  LETTER_CONNECTED,
  LETTER_SUBSCRIBED, /* code: 1 granted */
  LETTER_MESSAGE,    /* text: the topic */
  LETTER_FAILED,     /* code: CONNACK or 0; text: Paho's words */
  LETTER_LOST,
  LETTER_GONE /* the last: Paho knows nothing of this connection any more */
};

struct letter {
  struct letter *next;
  enum letter_kind kind;
  int code;
  size_t len;
  char text[];
};

struct publish_job {
  struct mqtt_job job; /* first member */
  struct mqtt *mqtt;
  char topic[];
};

struct mqtt {
  dstream_loop *loop;
  struct mqtt_callbacks callbacks;
  void *user;

  /* written once, before the worker knows of it */
  char *host;
  char *uri;
  char *client_id;
  char *user_name;
  char *password;
  char *ca_file;
  char *cert_file;
  char *key_file;
  char *paho_proxy; /* "[user:password@]host:port" */
  struct link_proxy proxy;
  const struct tls_config *tls;
  uint16_t port;
  int keepalive_s;
  int connect_timeout_s;
  char *filters[2];

  /* the worker's */
  MQTTAsync handle;
  struct mqtt_job connect_job;
  struct mqtt_job subscribe_job;
  struct mqtt_job close_job;
  struct mqtt_job destroy_job;
  atomic_bool destroying;

  /* the loop's */
  bool was_up;
  bool ended;
  bool closing;
  struct loop_timer close_timer;
  struct link *probe; /* asks why a connection failed */
  struct dstream_end fallback;

  pthread_mutex_t lock; /* guards the mailbox: the rest */
  struct letter *letters;
  struct letter **tail;
  bool posted;
  struct loop_post post;
  unsigned messages;
  unsigned dropped_long;
  unsigned dropped_many;
  char tls_reason[160];
  struct letter gone; /* can't fail for want of memory; no text */
};

static void read_letters(void *arg);

/* ---- letters: any thread, with Paho's mutex held at times ---- */

/* There is at most one post under way, and whoever reads the last letter frees
 * everything: nothing is touched after the post. */
static void put_letter(struct mqtt *mqtt, struct letter *letter) {
  dstream_loop *loop = mqtt->loop;
  pthread_mutex_lock(&mqtt->lock);
  letter->next = NULL;
  *mqtt->tail = letter;
  mqtt->tail = &letter->next;
  bool first = !mqtt->posted;
  mqtt->posted = true;
  pthread_mutex_unlock(&mqtt->lock);
  if (first)
    loop_post(loop, &mqtt->post, read_letters, mqtt);
}

static void send_letter(struct mqtt *mqtt, enum letter_kind kind, int code,
                        const char *text, size_t len) {
  struct letter *letter = malloc(sizeof *letter + len + 1);
  if (letter == NULL)
    return; /* a deadline of the owner's takes its place */
  *letter = (struct letter){.kind = kind, .code = code, .len = len};
  if (len > 0)
    memcpy(letter->text, text, len);
  letter->text[len] = '\0';
  put_letter(mqtt, letter);
}

static void letter_free(struct mqtt *mqtt, struct letter *letter) {
  if (letter == &mqtt->gone)
    return;
  crypto_wipe(letter->text, letter->len);
  free(letter);
}

/* ---- Paho's callbacks ---- */

static void paho_connected(void *context, MQTTAsync_successData *data) {
  (void)data;
  send_letter(context, LETTER_CONNECTED, 0, "", 0);
}

static void paho_failed(void *context, MQTTAsync_failureData *data) {
  int code = data != NULL && data->code > 0 ? data->code : 0;
  const char *text = data != NULL && data->message != NULL ? data->message : "";
  send_letter(context, LETTER_FAILED, code, text, strlen(text));
}

static void paho_lost(void *context, char *cause) {
  (void)cause;
  send_letter(context, LETTER_LOST, 0, "", 0);
}

static void paho_subscribed(void *context, MQTTAsync_successData *data) {
  bool granted = data != NULL;
  for (int i = 0; granted && i < 2; i++)
    granted = data->alt.qosList != NULL && data->alt.qosList[i] != 0x80;
  send_letter(context, LETTER_SUBSCRIBED, granted, "", 0);
}

static void paho_not_subscribed(void *context, MQTTAsync_failureData *data) {
  /* Incomplete, or the connection broke: LETTER_LOST says that. */
  if (data != NULL && data->code == 0x80)
    send_letter(context, LETTER_SUBSCRIBED, 0, "", 0);
}

static int paho_message(void *context, char *topic, int topic_len,
                        MQTTAsync_message *message) {
  struct mqtt *mqtt = context;
  size_t len = topic_len > 0 ? (size_t)topic_len : strlen(topic);
  bool take = false;
  pthread_mutex_lock(&mqtt->lock);
  if (len > MQTT_TOPIC_MAX) {
    mqtt->dropped_long++;
  } else if (mqtt->messages >= MQTT_MESSAGES_MAX) {
    mqtt->dropped_many++;
  } else {
    mqtt->messages++;
    take = true;
  }
  pthread_mutex_unlock(&mqtt->lock);
  if (take)
    send_letter(mqtt, LETTER_MESSAGE, 0, topic, len);
  crypto_wipe(topic, len);
  MQTTAsync_freeMessage(&message);
  MQTTAsync_free(topic);
  return 1;
}

/* One line of ERR_print_errors_cb: "thread:error:code:library:function:reason:
 * file:line:data".  The first one is what happened. */
static int paho_tls_error(const char *line, size_t len, void *context) {
  struct mqtt *mqtt = context;
  struct slice rest = {line, len};
  for (int field = 0; field < 5; field++) {
    const char *colon = rest.len == 0 ? NULL : memchr(rest.p, ':', rest.len);
    if (colon == NULL)
      return 1;
    rest.len -= (size_t)(colon + 1 - rest.p);
    rest.p = colon + 1;
  }
  const char *colon = rest.len == 0 ? NULL : memchr(rest.p, ':', rest.len);
  size_t used = colon == NULL ? rest.len : (size_t)(colon - rest.p);
  pthread_mutex_lock(&mqtt->lock);
  if (mqtt->tls_reason[0] == '\0')
    snprintf(mqtt->tls_reason, sizeof mqtt->tls_reason, "%.*s", (int)used,
             rest.p);
  pthread_mutex_unlock(&mqtt->lock);
  return 1;
}

/* ---- jobs: the worker's thread ---- */

static struct mqtt *of_connect(struct mqtt_job *job) {
  return CONTAINER_OF(job, struct mqtt, connect_job);
}

static struct mqtt *of_subscribe(struct mqtt_job *job) {
  return CONTAINER_OF(job, struct mqtt, subscribe_job);
}

static struct mqtt *of_close(struct mqtt_job *job) {
  return CONTAINER_OF(job, struct mqtt, close_job);
}

static struct mqtt *of_destroy(struct mqtt_job *job) {
  return CONTAINER_OF(job, struct mqtt, destroy_job);
}

static void send_failure(struct mqtt *mqtt, const char *call, int status) {
  char text[80];
  int len = snprintf(text, sizeof text, "%s: error %d", call, status);
  send_letter(mqtt, LETTER_FAILED, 0, text, (size_t)len);
}

static int paho_connect(struct mqtt *mqtt) {
  MQTTAsync_SSLOptions ssl = MQTTAsync_SSLOptions_initializer;
  ssl.trustStore = mqtt->ca_file;
  ssl.keyStore = mqtt->cert_file;
  ssl.privateKey = mqtt->key_file;
  ssl.enabledCipherSuites = SUITES;
  ssl.enableServerCertAuth = 1;
  ssl.verify = 1;
  ssl.ssl_error_cb = paho_tls_error;
  ssl.ssl_error_context = mqtt;

  MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;
  options.keepAliveInterval = mqtt->keepalive_s;
  options.cleansession = 0;
  options.username = mqtt->user_name;
  options.password = mqtt->password;
  options.connectTimeout = mqtt->connect_timeout_s;
  options.ssl = &ssl;
  options.MQTTVersion = MQTTVERSION_3_1_1;
  options.httpsProxy = mqtt->paho_proxy;
  options.onSuccess = paho_connected;
  options.onFailure = paho_failed;
  options.context = mqtt;
  return MQTTAsync_connect(mqtt->handle, &options);
}

static void do_connect(struct mqtt_job *job) {
  struct mqtt *mqtt = of_connect(job);
  int status = MQTTAsync_create(&mqtt->handle, mqtt->uri, mqtt->client_id,
                                MQTTCLIENT_PERSISTENCE_NONE, NULL);
  if (status != MQTTASYNC_SUCCESS) {
    mqtt->handle = NULL;
    send_failure(mqtt, "MQTTAsync_create", status);
    return;
  }
  status =
      MQTTAsync_setCallbacks(mqtt->handle, mqtt, paho_lost, paho_message, NULL);
  if (status == MQTTASYNC_SUCCESS)
    status = paho_connect(mqtt);
  if (status != MQTTASYNC_SUCCESS)
    send_failure(mqtt, "MQTTAsync_connect", status);
}

static void do_subscribe(struct mqtt_job *job) {
  struct mqtt *mqtt = of_subscribe(job);
  if (mqtt->handle == NULL)
    return;
  const int qos[2] = {0, 0};
  MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
  options.onSuccess = paho_subscribed;
  options.onFailure = paho_not_subscribed;
  options.context = mqtt;
  MQTTAsync_subscribeMany(mqtt->handle, 2, mqtt->filters, qos, &options);
}

static void do_publish(struct mqtt_job *job) {
  struct publish_job *publish = (struct publish_job *)(void *)job;
  if (publish->mqtt->handle != NULL)
    MQTTAsync_send(publish->mqtt->handle, publish->topic, 0, "", 0, 0, NULL);
  free(publish);
}

static void queue_destroy(struct mqtt *mqtt) {
  if (!atomic_exchange(&mqtt->destroying, true))
    mqtt_worker_add(&mqtt->destroy_job);
}

static void paho_disconnected(void *context, MQTTAsync_successData *data) {
  (void)data;
  queue_destroy(context);
}

static void paho_not_disconnected(void *context, MQTTAsync_failureData *data) {
  (void)data;
  queue_destroy(context);
}

/* The disconnect waits in Paho's queue behind what was published. */
static void do_close(struct mqtt_job *job) {
  struct mqtt *mqtt = of_close(job);
  MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;
  options.onSuccess = paho_disconnected;
  options.onFailure = paho_not_disconnected;
  options.context = mqtt;
  options.timeout = 0;
  if (mqtt->handle == NULL ||
      MQTTAsync_disconnect(mqtt->handle, &options) != MQTTASYNC_SUCCESS)
    queue_destroy(mqtt);
}

static void do_destroy(struct mqtt_job *job) {
  struct mqtt *mqtt = of_destroy(job);
  if (mqtt->handle != NULL)
    MQTTAsync_destroy(&mqtt->handle);
  put_letter(mqtt, &mqtt->gone);
  mqtt_worker_leave();
}

/* ---- why it failed: the loop's thread ---- */

static void tell_end(struct mqtt *mqtt, const struct dstream_end *why) {
  if (mqtt->ended || mqtt->closing)
    return;
  mqtt->ended = true;
  mqtt->callbacks.on_end(mqtt->user, why);
}

static void probe_up(void *user) {
  struct mqtt *mqtt = user;
  link_abort(mqtt->probe);
  mqtt->probe = NULL;
  tell_end(mqtt, &mqtt->fallback);
}

static size_t probe_data(void *user, uint8_t *data, size_t len) {
  (void)user;
  (void)data;
  return len;
}

static void probe_end(void *user, const struct dstream_end *why) {
  struct mqtt *mqtt = user;
  struct dstream_end end = why != NULL ? *why : mqtt->fallback;
  link_abort(mqtt->probe);
  mqtt->probe = NULL;
  tell_end(mqtt, &end);
}

static void set_fallback(struct mqtt *mqtt, const char *words) {
  struct dstream_end *end = &mqtt->fallback;
  char reason[sizeof mqtt->tls_reason];
  pthread_mutex_lock(&mqtt->lock);
  memcpy(reason, mqtt->tls_reason, sizeof reason);
  pthread_mutex_unlock(&mqtt->lock);
  if (reason[0] != '\0')
    end_set(end, DSTREAM_ETLS, "TLS with %s failed: %s", mqtt->host, reason);
  else if (strstr(words, "timeout") != NULL)
    end_set(end, DSTREAM_ETIMEDOUT, "%s did not answer in %d s", mqtt->host,
            mqtt->connect_timeout_s);
  else if (mqtt->cert_file != NULL)
    end_set(end, DSTREAM_EIO,
            "%s ended the connection before it answered CONNECT (%s): check "
            "that it accepts the client certificate %s",
            mqtt->host, words, mqtt->cert_file);
  else
    end_set(end, DSTREAM_EIO,
            "%s ended the connection before it answered CONNECT (%s)",
            mqtt->host, words);
}

static void explain(struct mqtt *mqtt, const struct letter *letter) {
  static const struct link_callbacks callbacks = {
      .on_up = probe_up, .on_data = probe_data, .on_end = probe_end};
  if (mqtt->ended || mqtt->closing || mqtt->probe != NULL)
    return;
  if (letter->code > 0) {
    struct dstream_end end;
    end_set(&end, DSTREAM_EMQTT, "the hub refused the connection, CONNACK %d",
            letter->code);
    end.mqtt_code = letter->code;
    tell_end(mqtt, &end);
    return;
  }
  set_fallback(mqtt, letter->text);
  const struct link_options options = {.tls = mqtt->tls,
                                       .connect_timeout_ms = EXPLAIN_MS};
  if (mqtt->tls == NULL ||
      link_connect(&mqtt->probe, mqtt->loop, mqtt->host, mqtt->port,
                   &mqtt->proxy, &options, &callbacks, mqtt) != DSTREAM_OK) {
    mqtt->probe = NULL;
    tell_end(mqtt, &mqtt->fallback);
  }
}

static void tell_lost(struct mqtt *mqtt) {
  struct dstream_end end;
  end_set(&end, DSTREAM_EIO, "the control connection to %s was lost",
          mqtt->host);
  tell_end(mqtt, &end);
}

/* ---- letters: the loop's thread ---- */

static void free_string(char **text) {
  if (*text != NULL)
    crypto_wipe(*text, strlen(*text));
  free(*text);
  *text = NULL;
}

static void mqtt_free(struct mqtt *mqtt) {
  loop_timer_cancel(&mqtt->close_timer);
  free_string(&mqtt->host);
  free_string(&mqtt->uri);
  free_string(&mqtt->client_id);
  free_string(&mqtt->user_name);
  free_string(&mqtt->password);
  free_string(&mqtt->ca_file);
  free_string(&mqtt->cert_file);
  free_string(&mqtt->key_file);
  free_string(&mqtt->paho_proxy);
  free_string(&mqtt->filters[0]);
  free_string(&mqtt->filters[1]);
  crypto_wipe(&mqtt->proxy, sizeof mqtt->proxy);
  pthread_mutex_destroy(&mqtt->lock);
  free(mqtt);
}

static void read_letter(struct mqtt *mqtt, const struct letter *letter) {
  if (mqtt->closing)
    return;
  switch (letter->kind) {
  case LETTER_CONNECTED:
    mqtt->was_up = true;
    mqtt->callbacks.on_connected(mqtt->user);
    break;
  case LETTER_SUBSCRIBED:
    if (!mqtt->ended)
      mqtt->callbacks.on_subscribed(mqtt->user, letter->code != 0);
    break;
  case LETTER_MESSAGE:
    if (!mqtt->ended)
      mqtt->callbacks.on_message(mqtt->user, letter->text, letter->len);
    break;
  case LETTER_FAILED:
    explain(mqtt, letter);
    break;
  case LETTER_LOST:
    tell_lost(mqtt);
    break;
  case LETTER_GONE:
    break;
  }
}

static struct letter *take_letters(struct mqtt *mqtt, unsigned *too_long,
                                   unsigned *too_many) {
  pthread_mutex_lock(&mqtt->lock);
  struct letter *letters = mqtt->letters;
  mqtt->letters = NULL;
  mqtt->tail = &mqtt->letters;
  mqtt->posted = false;
  mqtt->messages = 0;
  *too_long = mqtt->dropped_long;
  *too_many = mqtt->dropped_many;
  mqtt->dropped_long = 0;
  mqtt->dropped_many = 0;
  pthread_mutex_unlock(&mqtt->lock);
  return letters;
}

static void read_letters(void *arg) {
  struct mqtt *mqtt = arg;
  unsigned too_long = 0;
  unsigned too_many = 0;
  struct letter *letter = take_letters(mqtt, &too_long, &too_many);
  if (too_long > 0)
    loop_log(mqtt->loop, DSTREAM_LOG_WARNING,
             "dropped %u messages with topics over %d bytes", too_long,
             MQTT_TOPIC_MAX);
  if (too_many > 0)
    loop_log(mqtt->loop, DSTREAM_LOG_WARNING,
             "dropped %u messages: more than %d at once", too_many,
             MQTT_MESSAGES_MAX);
  bool gone = false;
  while (letter != NULL) {
    struct letter *next = letter->next;
    gone = letter->kind == LETTER_GONE;
    read_letter(mqtt, letter);
    letter_free(mqtt, letter);
    letter = next;
  }
  if (!gone)
    return;
  assert(mqtt->closing);
  struct mqtt_callbacks callbacks = mqtt->callbacks;
  void *user = mqtt->user;
  mqtt_free(mqtt);
  callbacks.on_closed(user);
}

/* ---- orders: the loop's thread ---- */

static int copy(char **out, const char *text) {
  if (text == NULL)
    return DSTREAM_OK;
  *out = strdup(text);
  return *out == NULL ? DSTREAM_ENOMEM : DSTREAM_OK;
}

/* Paho percent-decodes the credentials, and hangs at a '%' that is no escape:
 * so all of it is escaped. */
static int copy_proxy(struct mqtt *mqtt, const struct link_proxy *proxy) {
  if (proxy == NULL || proxy->host[0] == '\0')
    return DSTREAM_OK;
  mqtt->proxy = *proxy;
  static const char basic[] = "Basic ";
  uint8_t plain[sizeof proxy->authorization];
  char credentials[3 * sizeof plain + 1] = "";
  char text[sizeof credentials + sizeof proxy->host + 8];
  size_t len = 0;
  int status = DSTREAM_OK;
  if (strncmp(proxy->authorization, basic, sizeof basic - 1) == 0) {
    const char *encoded = proxy->authorization + sizeof basic - 1;
    status = crypto_base64_decode(encoded, strlen(encoded), plain, sizeof plain,
                                  &len);
    struct slice whole = {(const char *)plain, len};
    if (status == DSTREAM_OK)
      status = percent_encode(whole, credentials, sizeof credentials);
  }
  if (status >= 0) {
    snprintf(text, sizeof text, "%s%s%s:%u", credentials,
             credentials[0] != '\0' ? "@" : "", proxy->host,
             (unsigned)proxy->port);
    status = copy(&mqtt->paho_proxy, text);
  }
  crypto_wipe(plain, sizeof plain);
  crypto_wipe(credentials, sizeof credentials);
  crypto_wipe(text, sizeof text);
  return status;
}

static int copy_options(struct mqtt *mqtt, const struct mqtt_options *options) {
  char uri[320];
  int len = snprintf(uri, sizeof uri, "%s://%s:%u%s",
                     options->websocket ? "wss" : "ssl", options->host,
                     (unsigned)options->port,
                     options->websocket ? MQTT_WEBSOCKET_PATH : "");
  if (len < 0 || (size_t)len >= sizeof uri)
    return DSTREAM_ELIMIT;
  mqtt->port = options->port;
  mqtt->keepalive_s = options->keepalive_s;
  mqtt->connect_timeout_s = options->connect_timeout_s;
  mqtt->tls = options->tls;
  const struct {
    char **to;
    const char *from;
  } texts[] = {
      {&mqtt->host, options->host},
      {&mqtt->uri, uri},
      {&mqtt->client_id, options->client_id},
      {&mqtt->user_name, options->user_name},
      {&mqtt->password, options->password},
      {&mqtt->ca_file, options->ca_file},
      {&mqtt->cert_file, options->cert_file},
      {&mqtt->key_file, options->key_file},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    int status = copy(texts[i].to, texts[i].from);
    if (status != DSTREAM_OK)
      return status;
  }
  return copy_proxy(mqtt, options->proxy);
}

int mqtt_connect(struct mqtt **out, dstream_loop *loop,
                 const struct mqtt_options *options,
                 const struct mqtt_callbacks *callbacks, void *user) {
  struct mqtt *mqtt = calloc(1, sizeof *mqtt);
  if (mqtt == NULL)
    return DSTREAM_ENOMEM;
  pthread_mutex_init(&mqtt->lock, NULL);
  mqtt->tail = &mqtt->letters;
  mqtt->loop = loop;
  mqtt->callbacks = *callbacks;
  mqtt->user = user;
  mqtt->gone.kind = LETTER_GONE;
  mqtt->connect_job.fn = do_connect;
  mqtt->subscribe_job.fn = do_subscribe;
  mqtt->close_job.fn = do_close;
  mqtt->destroy_job.fn = do_destroy;
  int status = copy_options(mqtt, options);
  if (status == DSTREAM_OK)
    status = mqtt_worker_enter();
  if (status != DSTREAM_OK) {
    mqtt_free(mqtt);
    return status;
  }
  if (mqtt->paho_proxy == NULL && getenv("https_proxy") != NULL)
    loop_log(loop, DSTREAM_LOG_WARNING,
             "the environment variable https_proxy is set: the control "
             "connection goes through it");
  mqtt_worker_add(&mqtt->connect_job);
  *out = mqtt;
  return DSTREAM_OK;
}

void mqtt_subscribe(struct mqtt *mqtt, const char *first, const char *second) {
  assert(mqtt->filters[0] == NULL && !mqtt->closing);
  if (copy(&mqtt->filters[0], first) == DSTREAM_OK &&
      copy(&mqtt->filters[1], second) == DSTREAM_OK)
    mqtt_worker_add(&mqtt->subscribe_job);
}

int mqtt_publish(struct mqtt *mqtt, const char *topic) {
  if (mqtt->closing || mqtt->ended)
    return DSTREAM_ESTATE;
  size_t size = strlen(topic) + 1;
  struct publish_job *publish = malloc(sizeof *publish + size);
  if (publish == NULL)
    return DSTREAM_ENOMEM;
  publish->job.fn = do_publish;
  publish->mqtt = mqtt;
  memcpy(publish->topic, topic, size);
  mqtt_worker_add(&publish->job);
  return DSTREAM_OK;
}

static void on_close_timer(struct loop_timer *timer) {
  queue_destroy(CONTAINER_OF(timer, struct mqtt, close_timer));
}

void mqtt_close(struct mqtt *mqtt) {
  if (mqtt->closing)
    return;
  mqtt->closing = true;
  link_abort(mqtt->probe);
  mqtt->probe = NULL;
  loop_timer_set(mqtt->loop, &mqtt->close_timer, CLOSE_MS, on_close_timer);
  mqtt_worker_add(&mqtt->close_job);
}
