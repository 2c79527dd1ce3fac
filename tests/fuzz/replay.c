// SPDX-License-Identifier: Apache-2.0
// Feeds every file of a corpus directory to a fuzz target, so that old findings stay found in a
// plain test run.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return 0;
    size_t n = 0, cap = 1 << 16, r;
    uint8_t *p = malloc(cap);
    while (p && (r = fread(p + n, 1, cap - n, f)) > 0) {
        n += r;
        if (n == cap)
            p = realloc(p, cap *= 2);
    }
    fclose(f);
    // Cut to size, so that a read past the end is a read past an allocation.
    uint8_t *exact = p ? realloc(p, n ? n : 1) : NULL;
    if (!exact) {
        free(p);
        return -1;
    }
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 1;
}

int main(int argc, char **argv)
{
    int files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d) {
            fprintf(stderr, "no corpus %s\n", argv[i]);
            return 1;
        }
        for (struct dirent *ent; (ent = readdir(d));) {
            char path[4096];
            if (ent->d_name[0] == '.')
                continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], ent->d_name);
            files += replay(path) > 0;
        }
        closedir(d);
    }
    printf("%d inputs\n", files);
    return files > 0 ? 0 : 1;
}
