/* Outside a machine: every call as one line of JSON, appended with one write(), so processes may share the file. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire.h"

enum { LINE_BYTES = 16384 };   /* a message of 1 KiB and details of a page, every byte escaped at worst */

static int file = -1;

static const char *command_name(enum command command)
{
    switch (command) {
    case COMMAND_ALWAYS: return "always";
    case COMMAND_SOMETIMES: return "sometimes";
    case COMMAND_REACHABLE: return "reachable";
    case COMMAND_UNREACHABLE: return "unreachable";
    case COMMAND_CATALOG: return "catalog";
    case COMMAND_GUIDANCE: return "guidance";
    case COMMAND_SETUP_COMPLETE: return "setup_complete";
    case COMMAND_SEND_EVENT: return "send_event";
    case COMMAND_RANDOM_GET: return "random_get";
    case COMMAND_RANDOM_CHOICE: return "random_choice";
    case COMMAND_COVERAGE_INIT: return "coverage_init";
    }
    return "unknown";
}

bool cc_local_open(void)
{
    const char *path = getenv("CHAOSCONTROL_SDK_LOCAL_OUTPUT");
    if (path == NULL || *path == '\0')
        return false;
    file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0)
        fprintf(stderr, "chaoscontrol: CHAOSCONTROL_SDK_LOCAL_OUTPUT=%s: %s\n", path, strerror(errno));
    return file >= 0;
}

void cc_local_write(const struct call *call)
{
    char line[LINE_BYTES], note[32];
    struct text text = {line, sizeof line - 1, 0, false};
    const char *json;
    size_t message_len, json_len;
    cc_fit(call, &message_len, &json, &json_len, note);
    cc_text_put(&text, "{\"command\":\"");
    cc_text_put(&text, command_name(call->command));
    cc_text_put(&text, "\",\"id\":");
    cc_text_u64(&text, call->id);
    if (call->command <= COMMAND_UNREACHABLE || call->command == COMMAND_GUIDANCE)
        cc_text_put(&text, call->condition ? ",\"condition\":true" : ",\"condition\":false");
    cc_text_put(&text, ",\"message\":");
    cc_text_json(&text, call->message, message_len);
    if (json_len > 0) {
        cc_text_put(&text, ",\"details\":");
        if (cc_json_valid(json, json_len))
            for (size_t i = 0; i < json_len; i++)   /* one line, whatever white space the caller likes */
                cc_text_raw(&text, json[i] == '\n' || json[i] == '\r' ? " " : &json[i], 1);
        else
            cc_text_json(&text, json, json_len);
    }
    cc_text_put(&text, "}");
    line[text.length++] = '\n';
    int before = errno;
    while (!text.cut && write(file, line, text.length) < 0 && errno == EINTR)
        ;
    errno = before;
}
