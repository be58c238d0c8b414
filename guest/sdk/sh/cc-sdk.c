/* cc-sdk: the SDK for shell scripts.  Exit status: 0 said, 1 no (`inside`), 2 wrong usage, 3 the host is out of reach. */

#include <errno.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wire.h"

extern char **environ;

enum { USAGE = 2, OUT_OF_REACH = 3, NOT_FOUND = 127 };

static const char help[] =
    "usage: cc-sdk COMMAND ...\n"
    "  always|always-or-unreachable|sometimes [-d JSON] MESSAGE true|false\n"
    "  always|always-or-unreachable|sometimes [-d JSON] MESSAGE STATUS        an exit status such as $?: 0 is true\n"
    "  always|always-or-unreachable|sometimes [-d JSON] MESSAGE -- PROGRAM [ARGUMENT...]   true if it exits with 0\n"
    "  reachable|unreachable [-d JSON] MESSAGE\n"
    "  setup-complete [JSON]        the set-up is done: faults may begin\n"
    "  send-event NAME [JSON]\n"
    "  random [N]                   print a number of 0..2^64-1, or of 0..N-1\n"
    "  choose WORD...               print one of the words\n"
    "  inside                       succeed inside a machine of cc-tui\n";

static int complain(const char *what, const char *which)
{
    fprintf(stderr, "cc-sdk: %s%s%s; see: cc-sdk help\n", what, which != NULL ? ": " : "", which != NULL ? which : "");
    return USAGE;
}

static bool is(const char *word, const char *name)
{
    return strcmp(word, name) == 0;
}

static bool is_details(const char *json)
{
    return cc_json_object(json, strlen(json));
}

/* A whole number of 0..max, decimal. */
static bool number(const char *word, uint64_t max, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(word, &end, 10);
    return word[0] >= '0' && word[0] <= '9' && *end == '\0' && errno == 0 && *value <= max;
}

/* The exit status of a program, as a shell would say it. */
static int run(char **argv)
{
    pid_t pid;
    int status, failed = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (failed != 0) {
        fprintf(stderr, "cc-sdk: %s: %s\n", argv[0], strerror(failed));
        return NOT_FOUND;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* `true`, `false`, an exit status, or -- and a program. */
static bool condition_of(int count, char **words, bool *condition)
{
    uint64_t status;
    if (count == 1 && (is(words[0], "true") || is(words[0], "false")))
        *condition = is(words[0], "true");
    else if (count == 1 && number(words[0], 255, &status))
        *condition = status == 0;
    else if (count >= 2 && is(words[0], "--"))
        *condition = run(words + 1) == 0;
    else
        return false;
    return true;
}

static int assertion(enum cc_kind kind, int count, char **words)
{
    const char *details = NULL;
    if (count >= 1 && is(words[0], "-d")) {
        if (count < 2 || !is_details(words[1]))
            return complain("-d wants a JSON object", count < 2 ? NULL : words[1]);
        details = words[1];
        count -= 2;
        words += 2;
    }
    if (count < 1 || words[0][0] == '\0')
        return complain("a message is missing", NULL);
    const char *message = words[0];
    bool condition = kind != CC_KIND_UNREACHABLE;
    if (kind == CC_KIND_REACHABLE || kind == CC_KIND_UNREACHABLE) {
        if (count != 1)
            return complain("one message is all it takes", words[1]);
    } else if (!condition_of(count - 1, words + 1, &condition)) {
        return complain("after the message comes true, false, an exit status of 0..255, or -- PROGRAM",
                        count > 1 ? words[1] : NULL);
    }
    cc_announce(kind, message);
    switch (kind) {
    case CC_KIND_SOMETIMES: cc_sometimes(condition, message, details); break;
    case CC_KIND_REACHABLE: cc_reachable(message, details); break;
    case CC_KIND_UNREACHABLE: cc_unreachable(message, details); break;
    default: cc_always(condition, message, details); break;
    }
    return 0;
}

static int with_details(const char *name, int count, char **words)
{
    if (count > 1 || (count == 1 && !is_details(words[0])))
        return complain("wanted at most one JSON object", words[0]);
    const char *details = count == 1 ? words[0] : NULL;
    if (name != NULL)
        cc_send_event(name, details);
    else
        cc_setup_complete(details);
    return 0;
}

static int print_random(int count, char **words)
{
    uint64_t n;
    if (count > 1 || (count == 1 && (!number(words[0], UINT32_MAX, &n) || n == 0)))
        return complain("wanted a number of 1..4294967295", words[0]);
    printf("%" PRIu64 "\n", count == 1 ? cc_random_choice((uint32_t)n) : cc_random());
    return 0;
}

static int dispatch(const char *command, int count, char **words)
{
    static const struct {
        const char *name;
        enum cc_kind kind;
    } assertions[] = {
        {"always", CC_KIND_ALWAYS},
        {"always-or-unreachable", CC_KIND_ALWAYS_OR_UNREACHABLE},
        {"sometimes", CC_KIND_SOMETIMES},
        {"reachable", CC_KIND_REACHABLE},
        {"unreachable", CC_KIND_UNREACHABLE},
    };
    for (size_t i = 0; i < sizeof assertions / sizeof *assertions; i++)
        if (is(command, assertions[i].name))
            return assertion(assertions[i].kind, count, words);
    if (is(command, "setup-complete"))
        return with_details(NULL, count, words);
    if (is(command, "send-event"))
        return count < 1 || words[0][0] == '\0' ? complain("an event has a name", NULL)
                                                : with_details(words[0], count - 1, words + 1);
    if (is(command, "random"))
        return print_random(count, words);
    if (is(command, "choose"))
        return count < 1 ? complain("choose of what?", NULL)
                         : puts(words[cc_random_choice((uint32_t)count)]) < 0;
    if (is(command, "inside"))
        return cc_inside_machine() ? 0 : 1;
    return complain("no such command", command);
}

int main(int argc, char **argv)
{
    if (argc < 2 || is(argv[1], "help") || is(argv[1], "--help") || is(argv[1], "-h")) {
        fputs(help, argc < 2 ? stderr : stdout);
        return argc < 2 ? USAGE : 0;
    }
    int status = dispatch(argv[1], argc - 2, argv + 2);
    if (status == 0 && cc_unreachable_machine()) {
        fprintf(stderr, "cc-sdk: the hypercall page is out of reach: /dev/mem wants root (CAP_SYS_RAWIO)\n");
        return OUT_OF_REACH;
    }
    return fflush(stdout) == 0 ? status : 1;
}
