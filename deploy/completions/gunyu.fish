# SPDX-License-Identifier: Apache-2.0
# fish completion for gunyu

set -l commands sync rdb config journal deadletter settle status version help
complete -c gunyu -f
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a sync -d "keep one server equal to another"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a rdb -d "print, load, compare, change and verify RDB files"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a config -d "check, show or document the configuration"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a journal -d "look into a journal"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a deadletter -d "commands that the target refused"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a status -d "what a running gunyu or its group does"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a settle -d "set the true expiries after gunyu was stopped for good"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a version -d "print the version"
complete -c gunyu -n "not __fish_seen_subcommand_from $commands" -a help -d "print the usage"
complete -c gunyu -n "__fish_seen_subcommand_from sync settle status retry" -o conf -rF -d "configuration file"
complete -c gunyu -n "__fish_seen_subcommand_from sync" -l from -x -a "redis:// rediss:// unix://" -d source
complete -c gunyu -n "__fish_seen_subcommand_from sync settle retry" -l to -x -a "redis:// rediss:// unix://" -d target
complete -c gunyu -n "__fish_seen_subcommand_from rdb; and test (count (commandline -opc)) -eq 2" -a "(gunyu rdb --help | string match -rg -- '^  ([a-z]+)')"
# Files, and the options of the command after "rdb" by its own help.
complete -c gunyu -n "__fish_seen_subcommand_from rdb; and test (count (commandline -opc)) -gt 2" -F -a "(gunyu rdb (commandline -opc)[3] --help 2>/dev/null | string match -ra -- '--[a-z][a-z-]+' | sort -u)"
# The names come from the program itself, so that they are those of its version.
complete -c gunyu -n "__fish_seen_subcommand_from sync" -a "(gunyu -h 2>&1 | string match -ra -- '--sync\.[A-Za-z.]+' | string replace -r '\$' '=')"
complete -c gunyu -n "__fish_seen_subcommand_from config; and not __fish_seen_subcommand_from check show docs" -a "check show docs"
complete -c gunyu -n "__fish_seen_subcommand_from config; and __fish_seen_subcommand_from check show" -F
complete -c gunyu -n "__fish_seen_subcommand_from config; and __fish_seen_subcommand_from docs" -a metrics
complete -c gunyu -n "__fish_seen_subcommand_from journal; and not __fish_seen_subcommand_from list verify print" -a "list verify print"
complete -c gunyu -n "__fish_seen_subcommand_from journal; and __fish_seen_subcommand_from list verify print" -F
complete -c gunyu -n "__fish_seen_subcommand_from deadletter; and not __fish_seen_subcommand_from list retry drop" -a "list retry drop"
complete -c gunyu -n "__fish_seen_subcommand_from deadletter; and __fish_seen_subcommand_from list retry drop" -F
complete -c gunyu -n "__fish_seen_subcommand_from status" -l url -x -d "HTTP API"
complete -c gunyu -n "__fish_seen_subcommand_from status" -l watch -d "again each second"
