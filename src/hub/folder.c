#include "hub/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "core/end.h"
#include "hub/identity.h"

int folder_enter(const char *directory, struct config *config,
                 struct dstream_end *end) {
  if (chdir(directory) != 0) {
    end_set(end, DSTREAM_ENOTFOUND, "%s: %s", directory, strerror(errno));
    return DSTREAM_ENOTFOUND;
  }
  int status = config_load(config, CONFIG_FILE, environ, end);
  if (status == DSTREAM_ENOTFOUND)
    end_set(end, status,
            "%s is no hub's folder (it has no " CONFIG_FILE
            "); \"dstream-hub init %s\" makes one",
            directory, directory);
  return status;
}

int folder_lock(int *fd, struct dstream_end *end) {
  int status = DSTREAM_ESYSTEM;
  int lock = -1;
  if (mkdir(FOLDER_RUN_DIR, 0700) == 0 || errno == EEXIST)
    lock = open(FOLDER_LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) {
    *fd = lock;
    return DSTREAM_OK;
  }
  if (lock >= 0 && errno == EWOULDBLOCK) {
    status = DSTREAM_ESTATE;
    end_set(end, status, "another dstream-hub runs in this folder already");
  } else {
    end_set(end, status, "%s: %s", FOLDER_LOCK_FILE, strerror(errno));
  }
  if (lock >= 0)
    close(lock);
  return status;
}

bool folder_runs(void) {
  int lock = open(FOLDER_LOCK_FILE, O_RDONLY | O_CLOEXEC);
  if (lock < 0)
    return false;
  bool runs = flock(lock, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(lock);
  return runs;
}

void folder_find_open(const struct config *config,
                      void (*say)(void *user, const char *path), void *user) {
  char wal[CONFIG_TEXT_SIZE + 8];
  snprintf(wal, sizeof wal, "%s-wal", config->database_file);
  const char *const paths[] = {config->database_file, wal, config->key_file,
                               "ca-key.pem"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    struct stat info;
    if (stat(paths[i], &info) == 0 && (info.st_mode & (S_IROTH | S_IWOTH)) != 0)
      say(user, paths[i]);
  }
}

/* ---- ports ---- */

int folder_ports_write(const struct folder_ports *ports,
                       struct dstream_end *end) {
  const char *temporary = FOLDER_PORTS_FILE ".new";
  FILE *file = fopen(temporary, "we");
  bool ok = file != NULL && fprintf(file, "{\"https\": %u, \"mqtt\": %u}\n",
                                    ports->https, ports->mqtt) > 0;
  if (file != NULL)
    ok = fclose(file) == 0 && ok;
  if (ok && rename(temporary, FOLDER_PORTS_FILE) == 0)
    return DSTREAM_OK;
  end_set(end, DSTREAM_ESYSTEM, "%s can't be written: %s", FOLDER_PORTS_FILE,
          strerror(errno));
  return DSTREAM_ESYSTEM;
}

static bool port_of(const cJSON *root, const char *name, uint16_t *port) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, name);
  if (!cJSON_IsNumber(item) || item->valuedouble < 1 ||
      item->valuedouble > 65535)
    return false;
  *port = (uint16_t)item->valuedouble;
  return true;
}

int folder_ports_read(struct folder_ports *ports) {
  char text[128] = "";
  FILE *file = fopen(FOLDER_PORTS_FILE, "re");
  if (file == NULL)
    return DSTREAM_ENOTFOUND;
  size_t len = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  cJSON *root = cJSON_ParseWithLength(text, len);
  bool ok = root != NULL && port_of(root, "https", &ports->https) &&
            port_of(root, "mqtt", &ports->mqtt);
  cJSON_Delete(root);
  return ok ? DSTREAM_OK : DSTREAM_EFORMAT;
}

int folder_ports_public(const struct config *config, struct folder_ports *ports,
                        struct dstream_end *end) {
  struct folder_ports last = {0, 0};
  if ((config->https_port == 0 || config->mqtt_port == 0) &&
      folder_ports_read(&last) != DSTREAM_OK) {
    end_set(end, DSTREAM_ESTATE,
            "the ports are not known before the hub has run once; start it "
            "with \"dstream-hub run\", or set ports in " CONFIG_FILE);
    return DSTREAM_ESTATE;
  }
  ports->https =
      config->https_port == 0 ? last.https : (uint16_t)config->https_port;
  ports->mqtt =
      config->mqtt_port == 0 ? last.mqtt : (uint16_t)config->mqtt_port;
  return DSTREAM_OK;
}

/* ---- connection strings ---- */

static int store_open(const struct config *config, bool read_only,
                      struct identity_store **store, struct dstream_end *end) {
  return identity_open(store, config->database_file, read_only, end);
}

/* The members of a struct conn_string are the caller's: nothing is freed. */
static int print_string(const struct conn_string *base,
                        const struct config *config,
                        const struct folder_ports *ports, char *out,
                        size_t size, struct dstream_end *end) {
  char host[CONFIG_TEXT_SIZE];
  snprintf(host, sizeof host, "%s", config->host);
  struct conn_string cs = *base;
  cs.host = host;
  cs.https_port = ports->https;
  cs.mqtt_port = ports->mqtt;
  int len = conn_string_format(&cs, out, size);
  if (len >= 0)
    return DSTREAM_OK;
  end_set(end, len, "the connection string is too long");
  return len;
}

static int print_device(const struct config *config,
                        const struct folder_ports *ports,
                        struct identity_device *device,
                        enum identity_which which, char *out, size_t size,
                        struct dstream_end *end) {
  struct conn_string cs = {0};
  struct identity_key *key =
      which == IDENTITY_PRIMARY ? &device->primary : &device->secondary;
  cs.device_id = device->id;
  switch (device->auth) {
  case IDENTITY_KEYS:
    cs.key = key->bytes;
    cs.key_len = key->len;
    break;
  case IDENTITY_THUMBPRINT:
  case IDENTITY_CA:
    cs.x509 = true;
    break;
  case IDENTITY_GROUP:
    end_set(end, DSTREAM_ESTATE,
            "\"%.130s\" is a group's device: \"dstream-hub group device\" "
            "prints its string",
            device->id);
    return DSTREAM_ESTATE;
  }
  return print_string(&cs, config, ports, out, size, end);
}

static const char *database_text(int status) {
  return status == DSTREAM_ESYSTEM
             ? "nothing was changed: the disk of the database is full"
             : "the database failed; is it busy, or damaged?";
}

static int device_error(int status, const char *id, struct dstream_end *end) {
  switch (status) {
  case DSTREAM_OK:
    return status;
  case DSTREAM_EINVAL:
    end_set(end, status,
            "\"%.130s\" can't be a device's id: 1 to %d letters, digits and "
            "-:.+%%_#*?!(),=@$'",
            id, IDENTITY_ID_MAX);
    break;
  case DSTREAM_ESTATE:
    end_set(end, status,
            "there is a device \"%s\" already; \"dstream-hub "
            "connection-string DIR --device ID\" shows its string",
            id);
    break;
  case DSTREAM_ENOTFOUND:
    end_set(end, status,
            "there is no device \"%.130s\"; \"dstream-hub device list DIR\" "
            "shows those there are",
            id);
    break;
  default:
    end_set(end, status, "%s", database_text(status));
    break;
  }
  return status;
}

/* The database, and the ports for a connection string (may be NULL). */
static int open_for(const struct config *config, bool read_only,
                    struct folder_ports *ports, struct identity_store **store,
                    struct dstream_end *end) {
  int status =
      ports == NULL ? DSTREAM_OK : folder_ports_public(config, ports, end);
  return status == DSTREAM_OK ? store_open(config, read_only, store, end)
                              : status;
}

int folder_device_string(const struct config *config, const char *id,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end) {
  struct folder_ports ports;
  struct identity_store *store = NULL;
  int status = open_for(config, true, &ports, &store, end);
  if (status != DSTREAM_OK)
    return status;
  struct identity_device device;
  status = device_error(identity_get(store, id, &device), id, end);
  if (status == DSTREAM_OK)
    status = print_device(config, &ports, &device, which, out, size, end);
  identity_device_wipe(&device);
  identity_close(store);
  return status;
}

static int policy_error(int status, const char *name, struct dstream_end *end) {
  if (status == DSTREAM_ENOTFOUND)
    end_set(end, status,
            "there is no policy \"%.70s\"; a new hub has \"iothubowner\", "
            "\"service\", \"device\", \"registryRead\" and "
            "\"registryReadWrite\"",
            name);
  else if (status != DSTREAM_OK)
    end_set(end, status, "%s", database_text(status));
  return status;
}

static int print_policy(struct identity_store *store,
                        const struct config *config,
                        const struct folder_ports *ports, const char *name,
                        enum identity_which which, char *out, size_t size,
                        struct dstream_end *end) {
  struct identity_policy policy;
  int status =
      policy_error(identity_policy_get(store, name, &policy), name, end);
  if (status == DSTREAM_OK) {
    struct conn_string cs = {0};
    struct identity_key *key =
        which == IDENTITY_PRIMARY ? &policy.primary : &policy.secondary;
    cs.policy = policy.name;
    cs.key = key->bytes;
    cs.key_len = key->len;
    status = print_string(&cs, config, ports, out, size, end);
  }
  identity_policy_wipe(&policy);
  return status;
}

int folder_policy_string(const struct config *config, const char *name,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end) {
  struct folder_ports ports;
  struct identity_store *store = NULL;
  int status = open_for(config, true, &ports, &store, end);
  if (status == DSTREAM_OK)
    status = print_policy(store, config, &ports, name, which, out, size, end);
  identity_close(store);
  return status;
}

int folder_policy_rotate(const struct config *config, const char *name,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end) {
  struct folder_ports ports;
  struct identity_store *store = NULL;
  int status = open_for(config, false, &ports, &store, end);
  if (status == DSTREAM_OK)
    status =
        policy_error(identity_policy_new_key(store, name, which), name, end);
  if (status == DSTREAM_OK)
    status = print_policy(store, config, &ports, name, which, out, size, end);
  identity_close(store);
  return status;
}

/* ---- devices ---- */

static int check_thumbprints(const struct folder_device *device,
                             struct dstream_end *end) {
  char text[IDENTITY_THUMBPRINT_SIZE];
  for (size_t i = 0; i < 2; i++) {
    if (device->thumbprint[i] == NULL ||
        identity_thumbprint(device->thumbprint[i], text))
      continue;
    end_set(end, DSTREAM_EINVAL,
            "\"%.130s\" is no thumbprint: 40 hex digits (SHA-1) or 64 "
            "(SHA-256), as `openssl x509 -fingerprint -sha256` prints it",
            device->thumbprint[i]);
    return DSTREAM_EINVAL;
  }
  return DSTREAM_OK;
}

static int add_device(struct identity_store *store,
                      const struct folder_device *device,
                      struct identity_device *out) {
  int64_t now_s = (int64_t)time(NULL);
  if (device->auth == IDENTITY_KEYS)
    return identity_add(store, device->id, now_s, out);
  int status = identity_add_x509(store, device->id, now_s, device->auth,
                                 device->thumbprint[0], device->thumbprint[1]);
  return status == DSTREAM_OK ? identity_get(store, device->id, out) : status;
}

int folder_device_add(const struct config *config,
                      const struct folder_device *device, char *out,
                      size_t size, struct dstream_end *end) {
  struct folder_ports ports;
  struct identity_store *store = NULL;
  /* Not every id that the database takes fits into a connection string. */
  if (!conn_string_id_valid(slice_of(device->id)))
    return device_error(DSTREAM_EINVAL, device->id, end);
  int status = check_thumbprints(device, end);
  if (status == DSTREAM_OK)
    status = open_for(config, false, &ports, &store, end);
  if (status != DSTREAM_OK)
    return status;
  struct identity_device added;
  memset(&added, 0, sizeof added);
  status = device_error(add_device(store, device, &added), device->id, end);
  if (status == DSTREAM_OK)
    status =
        print_device(config, &ports, &added, IDENTITY_PRIMARY, out, size, end);
  identity_device_wipe(&added);
  identity_close(store);
  return status;
}

/* The ids of a file, each with its zero. */
struct ids {
  char *text;
  size_t len;
  size_t size;
  size_t count;
};

static bool ids_append(struct ids *ids, const char *id) {
  size_t len = strlen(id) + 1;
  if (ids->text == NULL || len > ids->size - ids->len) {
    size_t size = ids->size == 0 ? 4096 : 2 * ids->size;
    char *text = realloc(ids->text, size); /* holds a whole id more */
    if (text == NULL)
      return false;
    ids->text = text;
    ids->size = size;
  }
  memcpy(ids->text + ids->len, id, len);
  ids->len += len;
  ids->count++;
  return true;
}

static int line_error(int status, size_t line, const char *why,
                      struct dstream_end *end) {
  end_set(end, status, "line %zu: %s; nothing was added", line, why);
  return status;
}

/* One line.  An id is no longer than the buffer. */
static int add_line(struct identity_store *store, char *text, size_t line,
                    enum identity_auth auth, struct ids *ids,
                    struct dstream_end *end) {
  struct dstream_end why = {0};
  struct identity_device added;
  struct folder_device device = {.id = text, .auth = auth};
  text[strcspn(text, "\r\n")] = '\0';
  if (text[0] == '\0')
    return DSTREAM_OK;
  if (ids->count == FOLDER_IDS_MAX)
    return line_error(DSTREAM_ELIMIT, line, "too many devices at once", end);
  if (!ids_append(ids, text))
    return line_error(DSTREAM_ENOMEM, line, "out of memory", end);
  int status = conn_string_id_valid(slice_of(text))
                   ? add_device(store, &device, &added)
                   : DSTREAM_EINVAL;
  identity_device_wipe(&added);
  if (status == DSTREAM_OK)
    return status;
  device_error(status, text, &why);
  return line_error(status, line, why.text, end);
}

static int add_lines(struct identity_store *store, enum identity_auth auth,
                     FILE *in, struct ids *ids, struct dstream_end *end) {
  char text[2 * IDENTITY_ID_MAX];
  int status = identity_begin(store);
  if (status != DSTREAM_OK)
    return device_error(status, "", end);
  for (size_t line = 1; status == DSTREAM_OK; line++) {
    if (fgets(text, sizeof text, in) == NULL)
      break;
    status = add_line(store, text, line, auth, ids, end);
  }
  if (status == DSTREAM_OK && ferror(in)) {
    status = DSTREAM_EIO;
    end_set(end, status, "the ids can't be read: %s; nothing was added",
            strerror(errno));
  }
  if (status == DSTREAM_OK)
    status = device_error(identity_commit(store), "", end);
  if (status != DSTREAM_OK)
    identity_rollback(store);
  return status;
}

/* Only what is there for good is told. */
static int print_all(const struct config *config,
                     const struct folder_ports *ports,
                     struct identity_store *store, const struct ids *ids,
                     FILE *out, struct dstream_end *end) {
  char string[CONN_STRING_MAX];
  int status = DSTREAM_OK;
  for (size_t at = 0; at < ids->len && status == DSTREAM_OK;
       at += strlen(ids->text + at) + 1) {
    struct identity_device device;
    memset(&device, 0, sizeof device);
    status = device_error(identity_get(store, ids->text + at, &device),
                          ids->text + at, end);
    if (status == DSTREAM_OK)
      status = print_device(config, ports, &device, IDENTITY_PRIMARY, string,
                            sizeof string, end);
    if (status == DSTREAM_OK)
      fprintf(out, "%s\n", string);
    identity_device_wipe(&device);
  }
  crypto_wipe(string, sizeof string);
  return status;
}

int folder_device_add_many(const struct config *config, enum identity_auth auth,
                           FILE *in, FILE *out, struct dstream_end *end) {
  struct folder_ports ports;
  struct identity_store *store = NULL;
  struct ids ids = {0};
  int status = open_for(config, false, &ports, &store, end);
  if (status != DSTREAM_OK)
    return status;
  status = add_lines(store, auth, in, &ids, end);
  if (status == DSTREAM_OK)
    status = print_all(config, &ports, store, &ids, out, end);
  free(ids.text);
  identity_close(store);
  return status;
}

int folder_device_remove(const struct config *config, const char *id,
                         struct dstream_end *end) {
  struct identity_store *store = NULL;
  int status = store_open(config, false, &store, end);
  if (status != DSTREAM_OK)
    return status;
  status = device_error(identity_remove(store, id), id, end);
  identity_close(store);
  return status;
}

int folder_device_enable(const struct config *config, const char *id,
                         bool enabled, struct dstream_end *end) {
  struct identity_store *store = NULL;
  int status = store_open(config, false, &store, end);
  if (status != DSTREAM_OK)
    return status;
  status = device_error(
      identity_set_enabled(store, id, enabled, (int64_t)time(NULL)), id, end);
  identity_close(store);
  return status;
}

int folder_device_rotate(const struct config *config, const char *id,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end) {
  struct folder_ports ports;
  struct identity_store *store = NULL;
  int status = open_for(config, false, &ports, &store, end);
  if (status != DSTREAM_OK)
    return status;
  struct identity_device device;
  memset(&device, 0, sizeof device);
  status = identity_new_key(store, id, which, NULL);
  if (status == DSTREAM_ESTATE)
    end_set(end, status, "\"%.130s\" has no keys of its own", id);
  else
    status = device_error(status, id, end);
  if (status == DSTREAM_OK)
    status = device_error(identity_get(store, id, &device), id, end);
  if (status == DSTREAM_OK)
    status = print_device(config, &ports, &device, which, out, size, end);
  identity_device_wipe(&device);
  identity_close(store);
  return status;
}

struct listing {
  FILE *out;
  bool json;
  size_t count;
};

static bool print_id(void *user, const struct identity_device *device) {
  struct listing *listing = user;
  if (!listing->json) {
    fprintf(listing->out, "%s\n", device->id);
    return true;
  }
  static const char *const auths[] = {[IDENTITY_KEYS] = "sas",
                                      [IDENTITY_THUMBPRINT] = "selfSigned",
                                      [IDENTITY_CA] = "certificateAuthority",
                                      [IDENTITY_GROUP] = "group"};
  /* No character of an id needs escaping in JSON. */
  fprintf(listing->out,
          "%s\n  {\"deviceId\": \"%s\", \"status\": \"%s\", "
          "\"authentication\": \"%s\"}",
          listing->count == 0 ? "" : ",", device->id,
          device->enabled ? "enabled" : "disabled", auths[device->auth]);
  listing->count++;
  return true;
}

int folder_device_list(const struct config *config, int json, FILE *out,
                       struct dstream_end *end) {
  struct identity_store *store = NULL;
  int status = store_open(config, true, &store, end);
  if (status != DSTREAM_OK)
    return status;
  struct listing listing = {.out = out, .json = json != 0};
  if (json)
    fputs("[", out);
  status = identity_list(store, NULL, SIZE_MAX, print_id, &listing);
  if (json)
    fputs(listing.count == 0 ? "]\n" : "\n]\n", out);
  identity_close(store);
  return device_error(status, "", end);
}

/* ---- groups ---- */

static int group_error(int status, const char *name, struct dstream_end *end) {
  switch (status) {
  case DSTREAM_OK:
    break;
  case DSTREAM_EINVAL:
    end_set(end, status,
            "\"%.70s\" can't be a group's name (1 to %d letters, digits and "
            "-_.), or its prefix can begin no device's id",
            name, IDENTITY_POLICY_MAX);
    break;
  case DSTREAM_ESTATE:
    end_set(end, status, "there is a group \"%s\" already", name);
    break;
  case DSTREAM_ELIMIT:
    end_set(end, status, "there are %d groups already", IDENTITY_GROUPS_MAX);
    break;
  case DSTREAM_ENOTFOUND:
    end_set(end, status,
            "there is no group \"%.70s\"; \"dstream-hub group list DIR\" "
            "shows those there are",
            name);
    break;
  default:
    end_set(end, status, "%s", database_text(status));
    break;
  }
  return status;
}

int folder_group_add(const struct config *config, const char *name,
                     const char *prefix, struct dstream_end *end) {
  struct identity_store *store = NULL;
  char own[IDENTITY_POLICY_MAX + 2];
  int status = store_open(config, false, &store, end);
  if (status != DSTREAM_OK)
    return status;
  snprintf(own, sizeof own, "%.*s-", IDENTITY_POLICY_MAX, name);
  status = group_error(
      identity_group_add(store, name, prefix != NULL ? prefix : own), name,
      end);
  identity_close(store);
  return status;
}

int folder_group_remove(const struct config *config, const char *name,
                        struct dstream_end *end) {
  struct identity_store *store = NULL;
  int status = store_open(config, false, &store, end);
  if (status != DSTREAM_OK)
    return status;
  status = group_error(identity_group_remove(store, name), name, end);
  identity_close(store);
  return status;
}

int folder_group_rotate(const struct config *config, const char *name,
                        enum identity_which which, struct dstream_end *end) {
  struct identity_store *store = NULL;
  int status = store_open(config, false, &store, end);
  if (status != DSTREAM_OK)
    return status;
  status = group_error(identity_group_new_key(store, name, which), name, end);
  identity_close(store);
  return status;
}

static bool print_group(void *user, const struct identity_group *group) {
  struct listing *listing = user;
  if (!listing->json) {
    fprintf(listing->out, "%s\n", group->name);
    return true;
  }
  fprintf(listing->out, "%s\n  {\"group\": \"%s\", \"prefix\": \"%s\"}",
          listing->count == 0 ? "" : ",", group->name, group->prefix);
  listing->count++;
  return true;
}

int folder_group_list(const struct config *config, int json, FILE *out,
                      struct dstream_end *end) {
  struct identity_store *store = NULL;
  int status = store_open(config, true, &store, end);
  if (status != DSTREAM_OK)
    return status;
  struct listing listing = {.out = out, .json = json != 0};
  if (json)
    fputs("[", out);
  status = identity_group_each(store, NULL, print_group, &listing);
  if (json)
    fputs(listing.count == 0 ? "]\n" : "\n]\n", out);
  identity_close(store);
  return group_error(status, "", end);
}

static int read_group(const struct config *config, const char *name,
                      struct identity_group *group, struct dstream_end *end) {
  struct identity_store *store = NULL;
  memset(group, 0, sizeof *group);
  int status = store_open(config, true, &store, end);
  if (status != DSTREAM_OK)
    return status;
  status = group_error(identity_group_get(store, name, group), name, end);
  identity_close(store);
  return status;
}

int folder_group_key(const struct config *config, const char *name,
                     enum identity_which which, char *out, size_t size,
                     struct dstream_end *end) {
  struct identity_group group;
  int status = read_group(config, name, &group, end);
  const struct identity_key *key =
      which == IDENTITY_PRIMARY ? &group.primary : &group.secondary;
  if (status == DSTREAM_OK &&
      crypto_base64_encode(key->bytes, key->len, out, size) == 0) {
    status = DSTREAM_EINTERNAL;
    end_set(end, status, "the key is too long");
  }
  identity_group_wipe(&group);
  return status;
}

int folder_group_device(const struct config *config, const char *name,
                        const char *id, enum identity_which which, char *out,
                        size_t size, struct dstream_end *end) {
  struct identity_group group;
  struct identity_key key = {.len = 0};
  struct folder_ports ports;
  if (!conn_string_id_valid(slice_of(id)))
    return device_error(DSTREAM_EINVAL, id, end);
  int status = folder_ports_public(config, &ports, end);
  if (status == DSTREAM_OK)
    status = read_group(config, name, &group, end);
  if (status != DSTREAM_OK)
    return status;
  if (!identity_group_covers(&group, id)) {
    status = DSTREAM_EINVAL;
    end_set(end, status,
            "\"%.130s\" is not of the group \"%s\": its ids begin with "
            "\"%s\"",
            id, group.name, group.prefix);
  } else {
    status = identity_group_derive(which == IDENTITY_PRIMARY ? &group.primary
                                                             : &group.secondary,
                                   id, &key);
  }
  if (status == DSTREAM_OK) {
    char device_id[IDENTITY_ID_MAX + 1];
    snprintf(device_id, sizeof device_id, "%s", id);
    struct conn_string cs = {0};
    cs.device_id = device_id;
    cs.key = key.bytes;
    cs.key_len = key.len;
    status = print_string(&cs, config, &ports, out, size, end);
  }
  crypto_wipe(&key, sizeof key);
  identity_group_wipe(&group);
  return status;
}
