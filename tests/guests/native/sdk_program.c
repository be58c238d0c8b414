/* A program with one of every kind of assertion, run outside a machine: test_sdk.py reads what it wrote. */

#include <stdio.h>
#include <string.h>

#include "chaoscontrol.h"

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return 0;               /* nothing is reached: only the catalog is said */
    for (int i = 0; i < 3; i++)
        CC_ALWAYS(i < 2, "i stays small", "{\"why\":\n \"a loop\"}");
    CC_ALWAYS_OR_UNREACHABLE(true, "or not at all", NULL);
    CC_SOMETIMES(false, "some time", "");
    CC_REACHABLE("here", NULL);
    if (argc > 5)
        CC_UNREACHABLE("never here", NULL);
    for (long left = 1; left < 6; left += 2)
        CC_ALWAYS_LESS_THAN(left, 10, "left below ten", "{\"mine\":true}");
    for (int left = 9; left > 6; left--)
        CC_ALWAYS_LESS_THAN_OR_EQUAL_TO(left, 10, "moves away", NULL);
    CC_ALWAYS_GREATER_THAN(INT64_MIN, INT64_MAX, "far apart", "{}");
    CC_ALWAYS_GREATER_THAN_OR_EQUAL_TO(2.5, 2.5, "floats", NULL);
    CC_SOMETIMES_LESS_THAN(1, 2, "s less", NULL);
    CC_SOMETIMES_LESS_THAN_OR_EQUAL_TO(3, 2, "s less or equal", NULL);
    CC_SOMETIMES_GREATER_THAN(1.5f, 0.25f, "s greater", NULL);
    CC_SOMETIMES_GREATER_THAN_OR_EQUAL_TO(1, 2, "s greater or equal", NULL);
    for (int i = 0; i < 3; i++)
        CC_SOMETIMES_ALL("all of them", NULL, {"one", i >= 1}, {"t\"wo", i >= 1});
    CC_ALWAYS_SOME("one of them", "{\"x\": 1}", {"a", false}, {"b", false});
    cc_always(true, "by name", "not json");
    cc_announce(CC_KIND_SOMETIMES, "by name too");
    cc_setup_complete("{\"nodes\":3}");
    char longer[2000];
    memset(longer, 'm', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    cc_send_event(longer, NULL);
    char details[5000];
    memset(details, 'd', sizeof details - 1);
    details[sizeof details - 1] = '\0';
    cc_send_event("control \x01 quote \" bad \xff utf \xc3\xa9", details);
    bool in_range = true;
    for (int i = 0; i < 1000; i++)
        in_range = in_range && cc_random_choice(7) < 7;
    uint64_t first = cc_random(), second = cc_random();
    printf("%d %d %d %d\n", cc_inside_machine(), in_range, first != second, cc_coverage_init("nobody", 3));
    cc_record_edge(5);          /* without a map: no effect, no crash */
    return 0;
}
