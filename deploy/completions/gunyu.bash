# SPDX-License-Identifier: Apache-2.0
# bash completion for gunyu

_gunyu()
{
    local cur prev command=""
    local word
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        sync | rdb | config | journal | deadletter | settle | status | version | help)
            command=$word
            break
            ;;
        esac
    done
    case $prev in
    -conf | --conf)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --from | --to)
        mapfile -t COMPREPLY < <(compgen -W "redis:// rediss:// unix://" -- "$cur")
        compopt -o nospace 2>/dev/null
        return
        ;;
    esac
    case $command/$prev in
    /*) mapfile -t COMPREPLY < <(compgen -W "sync rdb config journal deadletter settle status version help" -- "$cur") ;;
    config/config) mapfile -t COMPREPLY < <(compgen -W "check show docs" -- "$cur") ;;
    config/docs) mapfile -t COMPREPLY < <(compgen -W "metrics" -- "$cur") ;;
    config/*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    journal/journal) mapfile -t COMPREPLY < <(compgen -W "list verify print" -- "$cur") ;;
    journal/*) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    deadletter/deadletter) mapfile -t COMPREPLY < <(compgen -W "list retry drop" -- "$cur") ;;
    status/*) mapfile -t COMPREPLY < <(compgen -W "-conf --url --watch" -- "$cur") ;;
    settle/*) mapfile -t COMPREPLY < <(compgen -W "-conf --to" -- "$cur") ;;
    deadletter/*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    rdb/rdb)
        mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" rdb --help | awk '/^  [a-z]/ { print $1 }')" -- "$cur")
        ;;
    rdb/*)
        # A word or an option of the command after "rdb", by its own help.
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" rdb "${COMP_WORDS[2]}" --help |
                grep -oE -- '--[a-z][a-z-]+' | sort -u)" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        ;;
    sync/*)
        # The names come from the program itself, so that they are those of its version.
        local flags
        flags=$("${COMP_WORDS[0]}" -h 2>&1 | grep -oE -- '--sync\.[A-Za-z.]+')
        mapfile -t COMPREPLY < <(compgen -W "-conf --from --to $flags" -- "$cur")
        [ ${#COMPREPLY[@]} = 1 ] && [[ ${COMPREPLY[0]} == --*.* ]] && COMPREPLY[0]+="=" && compopt -o nospace
        ;;
    esac
}
complete -F _gunyu gunyu
