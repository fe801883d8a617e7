#ifndef HOLDFAST_TESTS_SIM_LEDGER_H
#define HOLDFAST_TESTS_SIM_LEDGER_H

/* What the journal was asked to keep, and what it has promised (ledger.c). */

/* The process has died: nobody will be told any more what became of what it had asked for. */
void ledger_forget_process(void);
void ledger_reset(void);

#endif
