/* CPU time and memory of process trees.  The CPU time is that of the kernel's
 * clock of each process (all threads, those that ended too), in nanoseconds. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

#define LABELS    8
#define MEMBERS   1024
#define PIDS      16384
#define SETTLE_MS 20000

struct member {
  pid_t pid;
  uint64_t cpu_ns; /* at the mark */
};

static struct label {
  char name[16];
  pid_t roots[8];
  unsigned root_count;
  struct member members[MEMBERS];
  unsigned member_count;
  uint64_t kb;
} labels[LABELS];
static unsigned label_count;

void processes_add(const char *text) {
  const char *equals = strchr(text, '=');
  struct label *label = &labels[label_count];
  if (label_count == LABELS || equals == NULL ||
      (size_t)(equals - text) >= sizeof label->name)
    die("not LABEL=PID,...: %s", text);
  label_count++;
  memcpy(label->name, text, (size_t)(equals - text));
  for (const char *at = equals + 1; *at != '\0';) {
    char *end;
    long pid = strtol(at, &end, 10);
    if (end == at || pid < 0 || label->root_count == 8)
      die("not LABEL=PID,...: %s", text);
    label->roots[label->root_count++] = pid == 0 ? getpid() : (pid_t)pid;
    at = *end == ',' ? end + 1 : end;
  }
}

/* ---- trees ---- */

static struct {
  pid_t pid;
  pid_t parent;
} all[PIDS];
static size_t all_count;

static pid_t parent_of(pid_t pid) {
  char path[64];
  char text[512];
  snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return 0;
  size_t len = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[len] = '\0';
  /* PID (NAME) STATE PARENT; the name may hold anything. */
  const char *at = strrchr(text, ')');
  return at == NULL || len < 4 ? 0 : (pid_t)strtol(at + 3, NULL, 10);
}

static void list_all(void) {
  DIR *folder = opendir("/proc");
  if (folder == NULL)
    die("can't read /proc");
  const struct dirent *entry;
  all_count = 0;
  while ((entry = readdir(folder)) != NULL && all_count < PIDS) {
    if (!isdigit((unsigned char)entry->d_name[0]))
      continue;
    all[all_count].pid = (pid_t)strtol(entry->d_name, NULL, 10);
    all[all_count].parent = parent_of(all[all_count].pid);
    all_count++;
  }
  closedir(folder);
}

static bool is_in(const pid_t *pids, unsigned count, pid_t pid) {
  for (unsigned i = 0; i < count; i++)
    if (pids[i] == pid)
      return true;
  return false;
}

/* The roots and all below them. */
static unsigned tree_of(const struct label *label, pid_t *out) {
  unsigned count = label->root_count;
  unsigned before = 0;
  memcpy(out, label->roots, count * sizeof *out);
  while (before != count) {
    before = count;
    for (size_t i = 0; i < all_count && count < MEMBERS; i++)
      if (is_in(out, count, all[i].parent) && !is_in(out, count, all[i].pid))
        out[count++] = all[i].pid;
  }
  return count;
}

/* ---- CPU ---- */

static uint64_t cpu_of(pid_t pid) {
  clockid_t clock;
  struct timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
    return 0;
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void processes_mark(void) {
  pid_t pids[MEMBERS];
  list_all();
  for (unsigned i = 0; i < label_count; i++) {
    struct label *label = &labels[i];
    label->member_count = tree_of(label, pids);
    for (unsigned j = 0; j < label->member_count; j++)
      label->members[j] = (struct member){pids[j], cpu_of(pids[j])};
  }
}

static uint64_t cpu_at_mark(const struct label *label, pid_t pid) {
  for (unsigned i = 0; i < label->member_count; i++)
    if (label->members[i].pid == pid)
      return label->members[i].cpu_ns;
  return 0;
}

void processes_print_cpu(double by) {
  pid_t pids[MEMBERS];
  char name[32];
  double chain = 0;
  list_all();
  for (unsigned i = 0; i < label_count; i++) {
    struct label *label = &labels[i];
    unsigned count = tree_of(label, pids);
    uint64_t spent = 0;
    for (unsigned j = 0; j < count; j++) {
      uint64_t cpu = cpu_of(pids[j]);
      uint64_t before = cpu_at_mark(label, pids[j]);
      spent += cpu > before ? cpu - before : 0;
    }
    snprintf(name, sizeof name, "cpu_%.15s", label->name);
    print_metric(name, (double)spent / 1e9 / by);
    if (strcmp(label->name, "load") != 0)
      chain += (double)spent / 1e9 / by;
  }
  if (label_count > 0)
    print_metric("cpu_chain", chain);
}

/* ---- memory ---- */

static uint64_t pss_of(pid_t pid) {
  char path[64];
  char line[256];
  unsigned long kb = 0;
  snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", (long)pid);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return 0;
  while (fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, "Pss:", 4) == 0)
      kb = strtoul(line + 4, NULL, 10);
  fclose(file);
  return kb;
}

static uint64_t pss_of_tree(const struct label *label) {
  pid_t pids[MEMBERS];
  uint64_t kb = 0;
  unsigned count = tree_of(label, pids);
  for (unsigned i = 0; i < count; i++)
    kb += pss_of(pids[i]);
  return kb;
}

void processes_memory(bool print, double by) {
  char name[32];
  list_all();
  for (unsigned i = 0; i < label_count; i++) {
    uint64_t kb = pss_of_tree(&labels[i]);
    snprintf(name, sizeof name, "kb_%s", labels[i].name);
    if (print)
      print_metric(name, ((double)kb - (double)labels[i].kb) / by);
    else
      labels[i].kb = kb;
  }
}

void processes_settle(unsigned ms) {
  const struct timespec tenth = {0, 100000000};
  uint64_t last[LABELS] = {0};
  uint64_t start = now_ns();
  uint64_t changed = start;
  while (now_ns() - changed < (uint64_t)ms * 1000000 &&
         now_ns() - start < (uint64_t)SETTLE_MS * 1000000) {
    list_all();
    for (unsigned i = 0; i < label_count; i++) {
      uint64_t kb = pss_of_tree(&labels[i]);
      uint64_t by = kb > last[i] ? kb - last[i] : last[i] - kb;
      if (by > 64) { /* KB: less is noise of shared pages */
        last[i] = kb;
        changed = now_ns();
      }
    }
    nanosleep(&tenth, NULL);
  }
}
