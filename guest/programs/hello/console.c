/*
 * The console: a line editor, a prompt and the heartbeat. It waits in poll() and nowhere else, so the machine halts
 * whenever nobody types and no timer is due.
 *
 * The terminal is in raw mode and the echo is ours: a heartbeat that arrives while a line is being typed is printed
 * above it, and the line is drawn again.
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include "hello.h"

#define PROMPT "guest> "
/* Back to the first column and erase to the end of the line (ECMA-48 EL). */
#define ERASE_LINE "\r\033[K"

enum {
    HISTORY_LINES = 8,
    CONTROL_C = 0x03,
    BACKSPACE = 0x08,
    CONTROL_L = 0x0c,
    CONTROL_U = 0x15,
    ESCAPE = 0x1b,
    DELETE = 0x7f,
};

/* How far into an escape sequence the input is: ESC, then '[' or 'O', then a final byte. */
enum escape_state { ESCAPE_NONE, ESCAPE_SEEN, ESCAPE_BRACKET };

static struct {
    char line[LINE_BYTES];
    size_t length;
    enum escape_state escape;
    char after_return;  /* the last byte ended a line with \r: a following \n belongs to it */
    char history[HISTORY_LINES][LINE_BYTES];
    unsigned history_count;  /* lines ever remembered; the ring holds the last HISTORY_LINES */
    unsigned history_back;   /* how many lines back the line shown is; 0 is the one being typed */
} editor;

/* What was typed while a command ran. When it is full, further input stays in the terminal. */
static struct {
    char bytes[LINE_BYTES];
    size_t count, taken;
} ahead;

static int heartbeat_timer;
static unsigned heartbeat_armed_s;
static unsigned long heartbeats;

/* The cursor is in the first column: after a newline or ERASE_LINE. */
static void draw_line(void)
{
    printf(PROMPT "%.*s", (int)editor.length, editor.line);
    fflush(stdout);
}

static void redraw_line(void)
{
    printf(ERASE_LINE);
    draw_line();
}

/* Byte-wise input, no echo, Ctrl-C as a byte. Output keeps turning \n into \r\n. */
static void set_raw_input(void)
{
    struct termios terminal;
    if (tcgetattr(STDIN_FILENO, &terminal) != 0)
        return;
    terminal.c_iflag &= ~(tcflag_t)(ICRNL | IXON | ISTRIP | INLCR | IGNCR);
    terminal.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    terminal.c_cc[VMIN] = 1;
    terminal.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
}

int console_interrupted(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (ahead.count < sizeof ahead.bytes && poll(&input, 1, 0) == 1 && (input.revents & POLLIN) != 0) {
        char byte;
        if (read(STDIN_FILENO, &byte, 1) != 1)
            return false;
        if (byte == CONTROL_C) {
            ahead.count = ahead.taken = 0;
            return true;
        }
        ahead.bytes[ahead.count++] = byte;
    }
    return false;
}

/* --- heartbeat -------------------------------------------------------------------------------- */

/* Beats fall on whole multiples of the period since boot, not since the command: their times read as a clock. */
static void arm_heartbeat(void)
{
    if (heartbeat_s() == heartbeat_armed_s)
        return;
    heartbeat_armed_s = heartbeat_s();
    struct itimerspec beat = {0};
    if (heartbeat_armed_s != 0) {
        int64_t period_ns = (int64_t)heartbeat_armed_s * 1000000000;
        int64_t first_ns = (monotonic_ns() / period_ns + 1) * period_ns;
        beat.it_value.tv_sec = first_ns / 1000000000;
        beat.it_interval.tv_sec = heartbeat_armed_s;
    }
    timerfd_settime(heartbeat_timer, TFD_TIMER_ABSTIME, &beat, NULL);
}

static void print_heartbeat(void)
{
    uint64_t expirations;
    if (read(heartbeat_timer, &expirations, sizeof expirations) != sizeof expirations)
        return;
    heartbeats += expirations;
    int64_t now_ms = monotonic_ns() / 1000000;
    char beat[LINE_BYTES];
    int length = snprintf(beat, sizeof beat, "[%6lld.%03lld] heartbeat %lu", (long long)(now_ms / 1000),
                          (long long)(now_ms % 1000), heartbeats);
    /* Over an empty prompt no erasing is needed: a console log then stays plain text. */
    bool covers = strlen(PROMPT) + editor.length <= (size_t)length;
    printf("%s%s\n", covers ? "\r" : ERASE_LINE, beat);
    draw_line();
}

/* --- line editor ------------------------------------------------------------------------------ */

static void remember_line(void)
{
    if (editor.length == 0)
        return;
    char *slot = editor.history[editor.history_count % HISTORY_LINES];
    memcpy(slot, editor.line, editor.length);
    slot[editor.length] = '\0';
    editor.history_count++;
}

/* Show the line `back` lines ago, if it is still remembered. */
static void recall_line(unsigned back)
{
    if (back > editor.history_count || back > HISTORY_LINES)
        return;
    editor.history_back = back;
    editor.length = 0;
    if (back > 0) {
        const char *slot = editor.history[(editor.history_count - back) % HISTORY_LINES];
        editor.length = strlen(slot);
        memcpy(editor.line, slot, editor.length);
    }
    redraw_line();
}

static void clear_line(void)
{
    editor.length = 0;
    editor.history_back = 0;
}

static void finish_line(void)
{
    printf("\n");
    remember_line();
    editor.line[editor.length] = '\0';
    clear_line();
    command_run(editor.line);
    arm_heartbeat();
    draw_line();
}

static void erase_last(void)
{
    if (editor.length == 0)
        return;
    editor.length--;
    printf("\b \b");
}

static void insert(char byte)
{
    /* One byte stays free for the terminator. */
    if (byte < ' ' || editor.length + 1 >= LINE_BYTES)
        return;
    editor.line[editor.length++] = byte;
    putchar(byte);
}

/* The arrows walk through the history; every other escape sequence is swallowed whole. */
static void take_escape_byte(char byte)
{
    if (editor.escape == ESCAPE_SEEN && (byte == '[' || byte == 'O')) {
        editor.escape = ESCAPE_BRACKET;
        return;
    }
    bool final = editor.escape == ESCAPE_SEEN || (byte >= '@' && byte <= '~');
    if (editor.escape == ESCAPE_BRACKET && byte == 'A')
        recall_line(editor.history_back + 1);
    else if (editor.escape == ESCAPE_BRACKET && byte == 'B' && editor.history_back > 0)
        recall_line(editor.history_back - 1);
    if (final)
        editor.escape = ESCAPE_NONE;
}

static void take_byte(char byte)
{
    bool second_of_pair = byte == '\n' && editor.after_return;
    editor.after_return = byte == '\r';
    if (second_of_pair)
        return;
    if (editor.escape != ESCAPE_NONE) {
        take_escape_byte(byte);
        return;
    }
    switch (byte) {
    case '\r':
    case '\n':
        finish_line();
        break;
    case BACKSPACE:
    case DELETE:
        erase_last();
        break;
    case CONTROL_C:
        printf("^C\n");
        clear_line();
        draw_line();
        break;
    case CONTROL_U:
        clear_line();
        redraw_line();
        break;
    case CONTROL_L:
        printf("\033[H\033[2J");
        draw_line();
        break;
    case ESCAPE:
        editor.escape = ESCAPE_SEEN;
        break;
    default:
        insert(byte);
    }
}

static void take_input(void)
{
    /* One byte at a time: the rest stays in the terminal, where console_interrupted() finds it during a command. */
    char byte;
    ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got == 1)
        take_byte(byte);
    else if (got == 0)
        poll(NULL, 0, 1000);  /* a hung-up terminal reports input for ever */
    while (ahead.taken < ahead.count)
        take_byte(ahead.bytes[ahead.taken++]);
    ahead.count = ahead.taken = 0;
    fflush(stdout);
}

void console_run(void)
{
    set_raw_input();
    heartbeat_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    arm_heartbeat();
    printf("type help; a heartbeat comes every %u s\n", heartbeat_s());
    draw_line();
    struct pollfd sources[] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = heartbeat_timer, .events = POLLIN},
    };
    for (;;) {
        if (poll(sources, 2, -1) < 0 && errno != EINTR)
            poll(NULL, 0, 1000);
        if (sources[1].revents & POLLIN)
            print_heartbeat();
        if (sources[0].revents != 0)
            take_input();
    }
}
