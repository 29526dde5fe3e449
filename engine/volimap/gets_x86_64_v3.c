/* gets_x86_64_v3.c -- gets.c for processors with AVX2 and what came with it; see
 * engine/CMakeLists.txt for the options. */
#define VOLIMAP_GETS volimap_gets_x86_64_v3
#include "engine/volimap/gets.c"
