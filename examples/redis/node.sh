# What every machine runs. Machine 0 is the server; the others count up a key each, and look whether what was
# acknowledged is still there. They speak to the server with `nc`: to start redis-cli costs ten times as much.

if [ "$CC_NODE" = 0 ]; then
    fsync=$(sed 's/.*redis\.fsync=\([a-z]*\).*/\1/' /proc/cmdline)
    cc-sdk setup-complete '{}'
    exec redis-server --dir /data --appendonly yes --appendfsync "$fsync" --save '' --protected-mode no \
        --logfile /data/log
fi

ask() { printf '%s\r\nquit\r\n' "$1" | timeout 2 nc 10.0.0.1 6379 2>/dev/null | tr -d '\r'; }

key=counter$CC_NODE
acknowledged=0
until ask ping | grep -q PONG; do usleep 20000; done
cc-sdk setup-complete '{}'

while usleep 100000; do
    next=$((acknowledged + 1))
    case $(ask "set $key $next") in +OK*) acknowledged=$next ;; esac
    set -- $(ask "get $key")
    case $1 in
    '$-1') found=0 ;;     # there is no such key
    '$'*) found=$2 ;;
    *) continue ;;        # no answer, or the server is still loading
    esac
    [ "$found" -ge $acknowledged ]
    cc-sdk always -d "{\"acknowledged\": $acknowledged, \"found\": $found}" "an acknowledged write is kept" $?
    acknowledged=$found   # a write that was not acknowledged may be there as well
done
