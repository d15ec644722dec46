/* What this library is: compared with the Python beside it before anything is computed. */

/* grows with every change of a bit of any result; VERSION in library.py is the same number */
#define ARITHMETIC_VERSION 3

#ifndef BUILD_ID
#define BUILD_ID "unknown"
#endif
#ifndef INSTRUCTION_SET
#define INSTRUCTION_SET "baseline"
#endif

int ds_arithmetic_version(void) { return ARITHMETIC_VERSION; }

/* the digest of the sources that were compiled */
const char *ds_build_id(void) { return BUILD_ID; }

/* baseline, v3 or v4 */
const char *ds_instruction_set(void) { return INSTRUCTION_SET; }
