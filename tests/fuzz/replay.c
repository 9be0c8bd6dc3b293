/* Runs a fuzz target over the files of its corpus, where libFuzzer is not
 * built in: fuzz_NAME FOLDER_OR_FILE...  Every prefix of a small file is an
 * input too, since a parser sees those when bytes come late. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX  (1 << 20)
#define PREFIX_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly size bytes, so that a sanitizer sees a read past it. */
static void run_input(const uint8_t *data, size_t size) {
  uint8_t *copy = malloc(size > 0 ? size : 1);

  if (copy == NULL) {
    abort();
  }
  memcpy(copy, data, size);
  LLVMFuzzerTestOneInput(copy, size);
  free(copy);
}

static int replay_file(const char *path) {
  static uint8_t data[INPUT_MAX];
  FILE *file = fopen(path, "rb");
  size_t size;

  if (file == NULL) {
    perror(path);
    return 1;
  }
  size = fread(data, 1, sizeof(data), file);
  fclose(file);
  run_input(data, size);
  for (size_t len = 0; len < size && size <= PREFIX_MAX; len++) {
    run_input(data, len);
  }
  return 0;
}

static int replay_folder(const char *folder) {
  DIR *dir = opendir(folder);
  struct dirent *entry;
  int files = 0, failed = 0;

  if (dir == NULL && errno == ENOTDIR) {
    return replay_file(folder);
  }
  if (dir == NULL) {
    perror(folder);
    return 1;
  }
  while ((entry = readdir(dir)) != NULL) {
    char path[4096];
    if (entry->d_name[0] == '.') {
      continue;
    }
    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
    failed |= replay_file(path);
    files++;
  }
  closedir(dir);
  printf("%s: %d files\n", folder, files);
  return failed != 0 || files == 0;
}

int main(int argc, char **argv) {
  int failed = argc < 2;

  for (int i = 1; i < argc; i++) {
    failed |= replay_folder(argv[i]);
  }
  return failed;
}
