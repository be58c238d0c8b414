#define _GNU_SOURCE /* "e" of fopen */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CMDLINE_BYTES = 4096 };

struct number {
    const char *name;
    size_t offset;
    uint32_t least, most, usual;
};

#define NUMBER(name, member, least, most, usual) {name, offsetof(struct config, member), least, most, usual}

static const struct number numbers[] = {
    NUMBER("cc.node", node, 0, RAFT_NODES_MAX - 1, 0),
    NUMBER("cc.nodes", nodes, 1, RAFT_NODES_MAX, 1),
    NUMBER("raft.election_min_ms", election_min_ms, 10, 60000, 150),
    NUMBER("raft.election_max_ms", election_max_ms, 10, 60000, 300),
    NUMBER("raft.heartbeat_ms", heartbeat_ms, 1, 10000, 50),
    NUMBER("raft.batch", batch, 1, RAFT_BATCH_MAX, 8),
    NUMBER("raft.log_max", log_max, 16, 10000000, 400000),
    NUMBER("raft.op_ms", op_ms, 0, 60000, 60),
    NUMBER("raft.reads_percent", reads_percent, 0, 100, 30),
    NUMBER("raft.local_port", local_port, 0, 65535 - RAFT_NODES_MAX, 0),
    NUMBER("raft.seed", seed, 0, UINT32_MAX, 0),
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

static uint32_t *member(struct config *config, const struct number *number)
{
    return (uint32_t *)(void *)((char *)config + number->offset);
}

static void defaults(struct config *config)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < NUMBERS; i++)
        *member(config, &numbers[i]) = numbers[i].usual;
    strcpy(config->data, "/dev/vda");
}

static bool set_number(struct config *config, const struct number *number, const char *value)
{
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || parsed < number->least || parsed > number->most) {
        snprintf(config->error, sizeof config->error, "%s=%.40s: a number from %u to %u is wanted", number->name, value,
                 number->least, number->most);
        return false;
    }
    *member(config, number) = (uint32_t)parsed;
    return true;
}

static bool set(struct config *config, const char *name, const char *value)
{
    for (size_t i = 0; i < NUMBERS; i++)
        if (strcmp(name, numbers[i].name) == 0)
            return set_number(config, &numbers[i], value);
    if (strcmp(name, "raft.data") == 0) {
        if (*value == '\0' || strlen(value) >= sizeof config->data) {
            snprintf(config->error, sizeof config->error, "raft.data: a path of 1 to %zu bytes is wanted",
                     sizeof config->data - 1);
            return false;
        }
        strcpy(config->data, value);
        return true;
    }
    if (strcmp(name, "raft.bug") == 0) {
        config->bug = raft_bug_from_name(value);
        if (config->bug != RAFT_BUG_COUNT)
            return true;
        int used = snprintf(config->error, sizeof config->error, "raft.bug=%.24s: one of", value);
        for (int bug = 0; bug < RAFT_BUG_COUNT; bug++)
            used += snprintf(config->error + used, sizeof config->error - (size_t)used, " %s",
                             raft_bug_name((enum raft_bug)bug));
        return false;
    }
    snprintf(config->error, sizeof config->error, "%.40s: no such setting", name);
    return false;
}

static bool ours(const char *word)
{
    return strncmp(word, "raft.", 5) == 0 || strncmp(word, "cc.node=", 8) == 0 || strncmp(word, "cc.nodes=", 9) == 0;
}

static bool set_word(struct config *config, char *word)
{
    char *equals = strchr(word, '=');
    if (equals == NULL) {
        snprintf(config->error, sizeof config->error, "%.40s: NAME=VALUE is wanted", word);
        return false;
    }
    *equals = '\0';
    return set(config, word, equals + 1);
}

static bool consistent(struct config *config)
{
    if (config->node >= config->nodes)
        snprintf(config->error, sizeof config->error, "cc.node=%u: less than cc.nodes=%u is wanted", config->node,
                 config->nodes);
    else if (config->election_min_ms > config->election_max_ms)
        snprintf(config->error, sizeof config->error, "raft.election_min_ms=%u: more than raft.election_max_ms=%u",
                 config->election_min_ms, config->election_max_ms);
    else
        return true;
    return false;
}

bool config_from_words(struct config *config, int count, char **words)
{
    defaults(config);
    for (int i = 0; i < count; i++)
        if (!set_word(config, words[i]))
            return false;
    return consistent(config);
}

bool config_from_cmdline(struct config *config, const char *path)
{
    static char text[CMDLINE_BYTES];
    defaults(config);
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(text, sizeof text, file) == NULL) {
        snprintf(config->error, sizeof config->error, "%s: %s", path, strerror(errno));
        if (file != NULL)
            fclose(file);
        return false;
    }
    fclose(file);
    for (char *word = strtok(text, " \n"); word != NULL; word = strtok(NULL, " \n"))
        if (ours(word) && !set_word(config, word))
            return false;
    return consistent(config);
}
