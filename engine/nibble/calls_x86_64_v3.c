/* calls_x86_64_v3.c -- calls.c for processors with AVX2 and what came with it; see
 * engine/CMakeLists.txt for the options. */
#define NIBBLE_CALLS nibble_calls_x86_64_v3
#include "engine/nibble/calls.c"
