#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "core/crypto.h"
#include "sim.h"

/* The linker turns each call of malloc into one of __wrap_malloc, and
 * __real_malloc into malloc (ld, --wrap). */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
time_t __wrap_time(time_t *out);
int __wrap_crypto_random(void *out, size_t len);

static uint64_t state;
static uint64_t secret_state;

static struct {
  unsigned long asked;
  unsigned long fail_at;
  unsigned long burst;
  unsigned long failed;
  size_t live;
  size_t bytes;
  size_t peak;
} memory;

/* ---- random numbers (splitmix64) ---- */

static uint64_t next(uint64_t *from) {
  uint64_t z = *from += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void sim_seed(uint64_t seed) {
  state = seed;
  secret_state = ~seed;
  for (int i = 0; i < 4; i++)
    next(&state);
}

uint64_t sim_random(void) {
  return next(&state);
}

uint64_t sim_below(uint64_t n) {
  return sim_random() % n;
}

bool sim_chance(unsigned permille) {
  return sim_below(1000) < permille;
}

uint64_t sim_between(uint64_t low, uint64_t high) {
  uint64_t most = high - low + 1;
  uint64_t a = sim_below(most);
  uint64_t b = sim_below(most);
  return low + (a < b ? a : b);
}

int __wrap_crypto_random(void *out, size_t len) {
  uint8_t *to = out;
  for (size_t i = 0; i < len; i++)
    to[i] = (uint8_t)next(&secret_state);
  return DSTREAM_OK;
}

/* A day like any other. */
time_t __wrap_time(time_t *out) {
  time_t now = (time_t)(1767225600 + loop_now_ms() / 1000);
  if (out != NULL)
    *out = now;
  return now;
}

/* ---- memory ---- */

void *sim_alloc(size_t size) {
  void *got = __real_calloc(1, size);
  if (got == NULL)
    sim_fail("the simulator itself is out of memory");
  return got;
}

void sim_free(void *old) {
  __real_free(old);
}

static bool fails(void) {
  memory.asked++;
  if (memory.fail_at == 0 || memory.asked < memory.fail_at ||
      memory.asked >= memory.fail_at + memory.burst)
    return false;
  memory.failed++;
  errno = ENOMEM;
  return true;
}

static void *count_in(void *got) {
  if (got == NULL)
    return NULL;
  memory.live++;
  memory.bytes += malloc_usable_size(got);
  if (memory.bytes > memory.peak)
    memory.peak = memory.bytes;
  return got;
}

static void count_out(void *old) {
  if (old == NULL)
    return;
  memory.live--;
  memory.bytes -= malloc_usable_size(old);
}

void *__wrap_malloc(size_t size) {
  return fails() ? NULL : count_in(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size) {
  return fails() ? NULL : count_in(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size) {
  if (fails())
    return NULL;
  count_out(old);
  return count_in(__real_realloc(old, size));
}

void __wrap_free(void *old) {
  count_out(old);
  __real_free(old);
}

char *__wrap_strndup(const char *text, size_t len) {
  size_t n = strnlen(text, len);
  char *copy = __wrap_malloc(n + 1);
  if (copy == NULL)
    return NULL;
  memcpy(copy, text, n);
  copy[n] = '\0';
  return copy;
}

char *__wrap_strdup(const char *text) {
  return __wrap_strndup(text, SIZE_MAX);
}

void sim_memory_fail(unsigned long n, unsigned long burst) {
  memory.asked = 0;
  memory.failed = 0;
  memory.fail_at = n;
  memory.burst = burst;
  memory.peak = memory.bytes;
}

unsigned long sim_memory_asked(void) {
  return memory.asked;
}

unsigned long sim_memory_failed(void) {
  return memory.failed;
}

size_t sim_memory_live(void) {
  return memory.live;
}

size_t sim_memory_bytes(void) {
  return memory.bytes;
}

size_t sim_memory_peak(void) {
  return memory.peak;
}

/* ---- the libraries' ---- */

/* Not counted as live: OpenSSL keeps some, for its errors. */
static void *ssl_malloc(size_t size, const char *file, int line) {
  (void)file;
  (void)line;
  return fails() ? NULL : __real_malloc(size);
}

static void *ssl_realloc(void *old, size_t size, const char *file, int line) {
  (void)file;
  (void)line;
  return fails() ? NULL : __real_realloc(old, size);
}

static void ssl_free(void *old, const char *file, int line) {
  (void)file;
  (void)line;
  __real_free(old);
}

void sim_memory_hook(void) {
  cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = __wrap_free};
  cJSON_InitHooks(&hooks);
  if (CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) != 1)
    sim_fail("OpenSSL takes no functions for memory");
  /* What the library makes once and keeps. */
  uint8_t out[CRYPTO_SHA256_LEN];
  if (crypto_sha1("", 0, out) != DSTREAM_OK ||
      crypto_hmac_sha256("k", 1, "", 0, out) != DSTREAM_OK)
    sim_fail("OpenSSL does not work");
}
