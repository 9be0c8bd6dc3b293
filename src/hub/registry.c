#include "hub/registry.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "hub/registry_device.h"

/* One request being done. */
struct run {
  struct identity_store *store;
  const struct registry_request *request;
  int64_t now_s;
  struct registry_answer *answer;
  struct registry_text text;
  struct registry_problem problem; /* code HUB_ERROR_NONE: none so far */
};

bool registry_if_match(struct slice value, char out[REGISTRY_IF_MATCH_MAX]) {
  if (value.len >= 2 && memcmp(value.p, "W/", 2) == 0)
    value = (struct slice){value.p + 2, value.len - 2};
  if (value.len >= 2 && value.p[0] == '"' && value.p[value.len - 1] == '"')
    value = (struct slice){value.p + 1, value.len - 2};
  if (value.len == 0 || value.len >= REGISTRY_IF_MATCH_MAX ||
      memchr(value.p, '"', value.len) != NULL ||
      memchr(value.p, '\0', value.len) != NULL)
    return false;
  memcpy(out, value.p, value.len);
  out[value.len] = '\0';
  return true;
}

void registry_answer_clear(struct registry_answer *answer) {
  if (answer->body != NULL)
    crypto_wipe(answer->body, answer->body_len);
  free(answer->body);
  free(answer->places);
  memset(answer, 0, sizeof *answer);
}

/* What the store could not do. */
static bool store_failed(struct registry_problem *problem, int status) {
  if (status == DSTREAM_ESYSTEM)
    return registry_refuse(problem, HUB_ERROR_UNAVAILABLE,
                           "The disk of the identities is full.");
  return registry_refuse(problem, HUB_ERROR_UNAVAILABLE,
                         "The identities can't be read or written just now.");
}

static bool not_found(struct registry_problem *problem, const char *id) {
  return registry_refuse(problem, HUB_ERROR_NO_DEVICE, "There is no device %s.",
                         id);
}

static bool room_for_places(struct run *run, size_t count) {
  run->answer->places = calloc(count, sizeof *run->answer->places);
  return run->answer->places != NULL ||
         registry_refuse(&run->problem, HUB_ERROR_UNAVAILABLE,
                         "The hub is out of memory.");
}

static void print(struct run *run, const struct identity_device *device) {
  struct registry_answer *answer = run->answer;
  registry_device_print(&run->text, device, run->request->show_keys,
                        &answer->places[answer->place_count++]);
}

/* ---- one device ---- */

/* *exists and *device; false: the store failed. */
static bool look_up(struct identity_store *store, const char *id, bool *exists,
                    struct identity_device *device,
                    struct registry_problem *problem) {
  memset(device, 0, sizeof *device);
  int status = identity_get(store, id, device);
  *exists = status == DSTREAM_OK;
  if (*exists || status == DSTREAM_ENOTFOUND)
    return true;
  return store_failed(problem, status);
}

/* The body of an answer about one device. */
static bool show(struct run *run, const char *id) {
  struct identity_device device;
  bool exists = false;
  if (!look_up(run->store, id, &exists, &device, &run->problem))
    return false;
  if (exists && room_for_places(run, 1)) {
    print(run, &device);
    memcpy(run->answer->etag, device.etag, sizeof run->answer->etag);
  } else if (!exists) {
    not_found(&run->problem, id);
  }
  identity_device_wipe(&device);
  return run->problem.code == HUB_ERROR_NONE;
}

/* wanted: empty: it must not be there; "*": it must; else its etag. */
static bool precondition(const char *wanted, const char *id, bool exists,
                         const struct identity_device *device,
                         struct registry_problem *problem) {
  if (wanted[0] == '\0')
    return !exists || registry_refuse(problem, HUB_ERROR_EXISTS,
                                      "A device with ID '%s' is already "
                                      "registered.",
                                      id);
  if (!exists)
    return not_found(problem, id);
  if (strcmp(wanted, "*") == 0 || strcmp(wanted, device->etag) == 0)
    return true;
  return registry_refuse(problem, HUB_ERROR_PRECONDITION,
                         "The device was changed since: its etag is another "
                         "one.");
}

static bool write_change(struct identity_store *store,
                         const struct registry_change *change, bool exists,
                         int64_t now_s, struct identity_device *device,
                         struct registry_problem *problem) {
  if (!registry_change_apply(change, exists, now_s, device, problem))
    return false;
  int status = identity_put(store, device);
  if (status == DSTREAM_EINVAL)
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "The device is not a valid one.");
  return status == DSTREAM_OK || store_failed(problem, status);
}

static bool put(struct run *run, const struct registry_change *change,
                const char *wanted, struct registry_problem *problem) {
  struct identity_device device;
  bool exists = false;
  bool ok =
      look_up(run->store, change->id, &exists, &device, problem) &&
      precondition(wanted, change->id, exists, &device, problem) &&
      write_change(run->store, change, exists, run->now_s, &device, problem);
  identity_device_wipe(&device);
  return ok;
}

static bool drop(struct run *run, const char *id, const char *wanted,
                 struct registry_problem *problem) {
  struct identity_device device;
  bool exists = false;
  bool ok = look_up(run->store, id, &exists, &device, problem) &&
            precondition(wanted, id, exists, &device, problem);
  identity_device_wipe(&device);
  if (!ok)
    return false;
  int status = identity_remove(run->store, id);
  return status == DSTREAM_OK || store_failed(problem, status);
}

static cJSON *parse(struct run *run) {
  cJSON *root =
      cJSON_ParseWithLength(run->request->body.p, run->request->body.len);
  if (root == NULL)
    registry_refuse(&run->problem, HUB_ERROR_ARGUMENT, "The body is not JSON.");
  return root;
}

static bool run_put(struct run *run) {
  const struct registry_request *request = run->request;
  struct registry_change change;
  cJSON *root = parse(run);
  if (root == NULL)
    return false;
  bool ok = registry_change_read(&change, root, &run->problem);
  if (ok && change.id[0] == '\0')
    memcpy(change.id, request->device, sizeof change.id);
  if (ok && strcmp(change.id, request->device) != 0)
    ok = registry_refuse(&run->problem, HUB_ERROR_ARGUMENT,
                         "deviceId is not the id of the address.");
  ok = ok && put(run, &change, request->if_match, &run->problem);
  registry_change_wipe(&change);
  cJSON_Delete(root);
  run->answer->changed = 1;
  return ok && show(run, request->device);
}

static bool run_delete(struct run *run) {
  const struct registry_request *request = run->request;
  run->answer->changed = 1;
  if (request->if_match[0] == '\0')
    return registry_refuse(&run->problem, HUB_ERROR_ARGUMENT,
                           "If-Match is needed: the device's etag, or *.");
  return drop(run, request->device, request->if_match, &run->problem);
}

/* ---- many ---- */

static bool print_next(void *user, const struct identity_device *device) {
  struct run *run = user;
  struct registry_answer *answer = run->answer;
  if (answer->place_count == run->request->limit) { /* one more than asked */
    memcpy(answer->next, answer->places[answer->place_count - 1].device,
           sizeof answer->next);
    return false;
  }
  registry_text_add(&run->text, answer->place_count == 0 ? "" : ",");
  print(run, device);
  return !run->text.failed;
}

static bool run_list(struct run *run) {
  const struct registry_request *request = run->request;
  assert(request->limit > 0 && request->limit <= REGISTRY_LIST_MAX);
  if (!room_for_places(run, request->limit))
    return false;
  registry_text_add(&run->text, "[");
  int status = identity_list(run->store, request->after, request->limit + 1,
                             print_next, run);
  registry_text_add(&run->text, "]");
  return status == DSTREAM_OK || store_failed(&run->problem, status);
}

static bool run_count(struct run *run) {
  size_t devices = 0, disabled = 0;
  int status = identity_count(run->store, &devices, &disabled);
  registry_text_add(&run->text,
                    "{\"totalDeviceCount\":%zu,\"enabledDeviceCount\":%zu,"
                    "\"disabledDeviceCount\":%zu}",
                    devices, devices - disabled, disabled);
  return status == DSTREAM_OK || store_failed(&run->problem, status);
}

static bool bulk_put(struct run *run, const struct registry_change *change,
                     bool by_etag, struct registry_problem *problem) {
  if (by_etag && change->etag[0] == '\0')
    return registry_refuse(problem, HUB_ERROR_PRECONDITION,
                           "The device's etag is missing.");
  return put(run, change, by_etag ? change->etag : "*", problem);
}

/* createOrUpdate: whichever it is. */
static bool bulk_create_or(struct run *run,
                           const struct registry_change *change, bool by_etag,
                           struct registry_problem *problem) {
  struct identity_device device;
  bool exists = false;
  if (!look_up(run->store, change->id, &exists, &device, problem))
    return false;
  identity_device_wipe(&device);
  return exists ? bulk_put(run, change, by_etag, problem)
                : put(run, change, "", problem);
}

static bool bulk_drop(struct run *run, const struct registry_change *change,
                      bool by_etag, struct registry_problem *problem) {
  if (by_etag && change->etag[0] == '\0')
    return registry_refuse(problem, HUB_ERROR_PRECONDITION,
                           "The device's etag is missing.");
  return drop(run, change->id, by_etag ? change->etag : "*", problem);
}

static bool bulk_one(struct run *run, const struct registry_change *change,
                     struct registry_problem *problem) {
  const char *mode = change->mode;
  if (strcasecmp(mode, "create") == 0)
    return put(run, change, "", problem);
  if (strcasecmp(mode, "update") == 0 ||
      strcasecmp(mode, "updateIfMatchETag") == 0)
    return bulk_put(run, change, mode[6] != '\0', problem);
  if (strcasecmp(mode, "delete") == 0 ||
      strcasecmp(mode, "deleteIfMatchETag") == 0)
    return bulk_drop(run, change, mode[6] != '\0', problem);
  if (strcasecmp(mode, "createOrUpdate") == 0 ||
      strcasecmp(mode, "createOrUpdateIfMatchETag") == 0)
    return bulk_create_or(run, change, mode[14] != '\0', problem);
  return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                         "importMode is to be create, update, delete or "
                         "createOrUpdate, perhaps with IfMatchETag.");
}

static bool seen_before(const cJSON *root, const cJSON *last, const char *id) {
  const cJSON *item = NULL;
  cJSON_ArrayForEach(item, root) {
    const cJSON *other = cJSON_GetObjectItemCaseSensitive(item, "id");
    if (item == last)
      break;
    if (cJSON_IsString(other) && strcmp(other->valuestring, id) == 0)
      return true;
  }
  return false;
}

static void add_error(struct run *run, const char *id,
                      const struct registry_problem *problem) {
  registry_text_add(&run->text, run->text.len == 0 ? "" : ",");
  registry_text_add(&run->text,
                    "{\"deviceId\":\"%s\",\"errorCode\":\"%s\","
                    "\"errorStatus\":",
                    id, hub_error_name(problem->code));
  registry_text_add_string(&run->text, problem->message);
  registry_text_add(&run->text, "}");
}

/* The errors of each into run->text.  False: nothing may be changed at all. */
static bool bulk_all(struct run *run, const cJSON *root) {
  cJSON *item = NULL;
  cJSON_ArrayForEach(item, root) {
    struct registry_problem problem = {HUB_ERROR_NONE, ""};
    struct registry_change change;
    bool ok = registry_change_read(&change, item, &problem);
    if (ok && change.id[0] == '\0')
      ok = registry_refuse(&problem, HUB_ERROR_ARGUMENT,
                           "The device's id is missing.");
    if (ok && seen_before(root, item, change.id))
      ok = registry_refuse(&problem, HUB_ERROR_DUPLICATE,
                           "The device is in the request more than once.");
    ok = ok && bulk_one(run, &change, &problem);
    registry_change_wipe(&change);
    if (problem.code == HUB_ERROR_UNAVAILABLE ||
        problem.code == HUB_ERROR_INTERNAL) {
      run->problem = problem;
      return false;
    }
    if (ok)
      run->answer->changed++;
    else
      add_error(run, conn_string_id_valid(slice_of(change.id)) ? change.id : "",
                &problem);
  }
  return true;
}

static bool run_bulk(struct run *run) {
  cJSON *root = parse(run);
  bool ok = root != NULL;
  if (ok && (!cJSON_IsArray(root) || cJSON_GetArraySize(root) == 0))
    ok = registry_refuse(&run->problem, HUB_ERROR_ARGUMENT,
                         "The body is to be an array of devices.");
  if (ok && cJSON_GetArraySize(root) > REGISTRY_BULK_MAX)
    ok = registry_refuse(&run->problem, HUB_ERROR_TOO_MANY,
                         "There are more than %d devices in the request.",
                         REGISTRY_BULK_MAX);
  ok = ok && bulk_all(run, root);
  cJSON_Delete(root);
  if (!ok)
    return false;
  struct registry_text errors = run->text;
  run->text = (struct registry_text){.failed = errors.failed};
  registry_text_add(
      &run->text, "{\"isSuccessful\":%s,\"errors\":[%s],\"warnings\":[]}",
      errors.len == 0 ? "true" : "false", errors.len == 0 ? "" : errors.p);
  if (errors.len > 0)
    run->answer->error = HUB_ERROR_ARGUMENT; /* as Azure: 400, with that body */
  registry_text_clear(&errors);
  return true;
}

/* ---- all ---- */

static bool run_operation(struct run *run) {
  switch (run->request->operation) {
  case REGISTRY_GET:
    return show(run, run->request->device);
  case REGISTRY_LIST:
    return run_list(run);
  case REGISTRY_PUT:
    return run_put(run);
  case REGISTRY_DELETE:
    return run_delete(run);
  case REGISTRY_BULK:
    return run_bulk(run);
  case REGISTRY_COUNT:
    return run_count(run);
  }
  return false;
}

static bool run_in_transaction(struct run *run) {
  enum registry_operation operation = run->request->operation;
  if (operation != REGISTRY_PUT && operation != REGISTRY_DELETE &&
      operation != REGISTRY_BULK)
    return run_operation(run);
  int status = identity_begin(run->store);
  if (status != DSTREAM_OK)
    return store_failed(&run->problem, status);
  bool ok = run_operation(run) && !run->text.failed;
  if (ok) {
    status = identity_commit(run->store);
    ok = status == DSTREAM_OK || store_failed(&run->problem, status);
  }
  if (!ok)
    identity_rollback(run->store);
  return ok;
}

void registry_run(struct identity_store *store,
                  const struct registry_request *request, int64_t now_s,
                  struct registry_answer *answer) {
  struct run run = {
      .store = store, .request = request, .now_s = now_s, .answer = answer};
  memset(answer, 0, sizeof *answer);
  bool ok = run_in_transaction(&run);
  if (run.text.failed)
    ok = registry_refuse(&run.problem, HUB_ERROR_UNAVAILABLE,
                         "The hub is out of memory.");
  if (ok) {
    answer->body = run.text.p;
    answer->body_len = run.text.len;
    return;
  }
  registry_text_clear(&run.text);
  registry_answer_clear(answer);
  answer->error = run.problem.code;
  memcpy(answer->message, run.problem.message, sizeof answer->message);
}
