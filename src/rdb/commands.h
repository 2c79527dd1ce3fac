// SPDX-License-Identifier: Apache-2.0
// The rdb commands: each gets its own arguments (argv[0] is the command's name) and returns the
// exit code of the process.
#ifndef GUNYU_RDB_COMMANDS_H
#define GUNYU_RDB_COMMANDS_H

int rdb_print_main(int argc, char **argv);
int rdb_verify_main(int argc, char **argv);
int rdb_report_main(int argc, char **argv);
int rdb_diff_main(int argc, char **argv);
int rdb_load_main(int argc, char **argv);
int rdb_filter_main(int argc, char **argv);
int rdb_split_main(int argc, char **argv);
int rdb_merge_main(int argc, char **argv);
int rdb_convert_main(int argc, char **argv);
int rdb_dump_main(int argc, char **argv);
// redisGunYu's form: action and file are in the configuration. conf may be NULL; flags as in
// control/config.h.
int rdb_compat_main(const char *conf, char *const *flags, int flags_n);

#endif
