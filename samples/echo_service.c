/* echo_service - sends stdin to a device, prints what comes back.
 *   DSTREAM_CONNECTION_STRING='HostName=..;SharedAccessKeyName=..' \
 *   DSTREAM_CA_FILE=ca.pem  echo_service DEVICE [NAME]
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <dstream/dstream.h>

static dstream_loop *loop;
static dstream_stream *stream;
static struct dstream_end end;
static char chunk[65536]; /* the reader's, and the loop's from the post on */
static long chunk_len, chunk_at;
static sem_t chunk_sent; /* the loop gives it back */
static bool at_end;

static void send_chunk(dstream_stream *s, void *user) {
  (void)user;
  at_end = chunk_len <= 0;
  if (at_end) { /* of stdin: the echo of the rest is still to come */
    if (dstream_stream_has_eof(s))
      dstream_stream_shutdown_write(s);
    else if (dstream_stream_bytes_in(s) == dstream_stream_bytes_out(s))
      dstream_stream_close(s);
    return;
  }
  long n =
      dstream_stream_write(s, chunk + chunk_at, (size_t)(chunk_len - chunk_at));
  if (n > 0) /* DSTREAM_EAGAIN: on_writable comes back here */
    chunk_at += n;
  if (chunk_at == chunk_len)
    sem_post(&chunk_sent);
}

static void on_chunk(void *arg) {
  if (stream != NULL) /* it may have ended meanwhile */
    send_chunk(stream, arg);
}

static void *read_stdin(void *arg) {
  for (;;) {
    chunk_at = 0;
    chunk_len = read(STDIN_FILENO, chunk, sizeof chunk);
    if (dstream_loop_post(loop, on_chunk, arg) != DSTREAM_OK || chunk_len <= 0)
      return NULL;
    sem_wait(&chunk_sent);
  }
}

static void on_open(dstream_stream *s, void *user) {
  pthread_t thread;
  stream = s;
  if (pthread_create(&thread, NULL, read_stdin, user) != 0)
    dstream_stream_close(s);
}

static void on_data(dstream_stream *s, void *u, const void *data, size_t len) {
  fwrite(data, 1, len, stdout);
  fflush(stdout);
  dstream_stream_consume(s, len);
  if (at_end)
    send_chunk(s, u);
}

static void on_close(dstream_stream *s, void *u,
                     const struct dstream_end *why) {
  (void)s, (void)u;
  stream = NULL;
  end = *why; /* offline, rejected, ended by the device, ...: it says so */
  dstream_loop_stop(loop);
}

int main(int argc, char **argv) {
  struct dstream_service_options options = {.size = sizeof options};
  struct dstream_stream_callbacks callbacks = {on_open, on_data, send_chunk,
                                               NULL, on_close};
  dstream_service *service = NULL;
  if (argc < 2)
    return fprintf(stderr, "usage: echo_service DEVICE [NAME]\n"), 2;
  sem_init(&chunk_sent, 0, 0);
  dstream_loop_new(&loop, NULL);
  options.loop = loop;
  options.connection_string = getenv("DSTREAM_CONNECTION_STRING");
  options.tls.size = sizeof options.tls;
  options.tls.ca_file = getenv("DSTREAM_CA_FILE");
  if (dstream_service_new(&service, &options, &end) == DSTREAM_OK &&
      dstream_service_open_stream(service, argv[1], argc > 2 ? argv[2] : "echo",
                                  NULL, &callbacks, NULL, NULL) == DSTREAM_OK)
    dstream_loop_run(loop);
  fprintf(stderr, "%s\n", end.text);
  dstream_service_free(service);
  /* The loop goes with the process: the reader may still wait for stdin. */
  return end.status == DSTREAM_OK || end.status == DSTREAM_ECLOSED ? 0 : 1;
}
