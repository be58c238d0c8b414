/* Is a text JSON (RFC 8259)?  Nesting is counted in a bit stack, so no input makes the checker recurse. */

#include "wire.h"

enum { DEPTH_MAX = 64 };

struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static bool take(struct cursor *c, char wanted)
{
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool is_digit(const struct cursor *c)
{
    return c->at < c->end && *c->at >= '0' && *c->at <= '9';
}

static bool digits(struct cursor *c)
{
    if (!is_digit(c))
        return false;
    while (is_digit(c))
        c->at++;
    return true;
}

static bool number(struct cursor *c)
{
    take(c, '-');
    if (!take(c, '0') && !digits(c))
        return false;
    if (take(c, '.') && !digits(c))
        return false;
    if (take(c, 'e') || take(c, 'E')) {
        if (!take(c, '+'))
            take(c, '-');
        return digits(c);
    }
    return true;
}

static bool hex4(struct cursor *c)
{
    for (int i = 0; i < 4; i++, c->at++) {
        char lower = (char)(c->at < c->end ? *c->at | 0x20 : 0);
        if (!is_digit(c) && (lower < 'a' || lower > 'f'))
            return false;
    }
    return true;
}

static bool string(struct cursor *c)
{
    if (!take(c, '"'))
        return false;
    while (c->at < c->end) {
        char byte = *c->at++;
        if (byte == '"')
            return true;
        if ((unsigned char)byte < 0x20)
            return false;
        if (byte != '\\')
            continue;
        if (take(c, 'u')) {
            if (!hex4(c))
                return false;
            continue;
        }
        bool known = false;
        for (const char *e = "\"\\/bfnrt"; *e != '\0'; e++)
            known |= c->at < c->end && *c->at == *e;
        if (!known)
            return false;
        c->at++;
    }
    return false;
}

static bool word(struct cursor *c, const char *text)
{
    while (*text != '\0')
        if (!take(c, *text++))
            return false;
    return true;
}

static bool scalar(struct cursor *c)
{
    switch (c->at < c->end ? *c->at : '\0') {
    case '"': return string(c);
    case 't': return word(c, "true");
    case 'f': return word(c, "false");
    case 'n': return word(c, "null");
    default: return number(c);
    }
}

/* "name": before a member's value. */
static bool member_name(struct cursor *c)
{
    skip_space(c);
    if (!string(c))
        return false;
    skip_space(c);
    if (!take(c, ':'))
        return false;
    skip_space(c);
    return true;
}

bool cc_json_valid(const char *bytes, size_t length)
{
    struct cursor c = {bytes, bytes + length};
    uint64_t objects = 0;       /* bit n: the level n is an object, else an array */
    unsigned depth = 0;
    skip_space(&c);
    for (;;) {
        /* A value begins here. */
        if (c.at < c.end && (*c.at == '{' || *c.at == '[')) {
            bool object = *c.at++ == '{';
            skip_space(&c);
            if (!take(&c, object ? '}' : ']')) {
                if (depth == DEPTH_MAX)
                    return false;
                objects = (objects & ~(UINT64_C(1) << depth)) | (uint64_t)object << depth;
                depth++;
                if (object && !member_name(&c))
                    return false;
                continue;
            }
        } else if (!scalar(&c)) {
            return false;
        }
        /* A value has ended: close levels, or go on with the next one. */
        for (;;) {
            skip_space(&c);
            if (depth == 0)
                return c.at == c.end;
            bool object = objects >> (depth - 1) & 1;
            if (take(&c, object ? '}' : ']')) {
                depth--;
                continue;
            }
            if (!take(&c, ','))
                return false;
            skip_space(&c);
            if (object && !member_name(&c))
                return false;
            break;
        }
    }
}

bool cc_json_object(const char *bytes, size_t length)
{
    struct cursor c = {bytes, bytes + length};
    skip_space(&c);
    return c.at < c.end && *c.at == '{' && cc_json_valid(bytes, length);
}
