/*
 * The program `holdfast` (cli/cli.h).
 */

#include "base/first_process.h"
#include "base/secret.h"
#include "cli/cli.h"
#include "cli/output.h"

int main(int argument_count, char **arguments)
{
    struct error error = {0};
    char **copies = secret_hide_arguments(argument_count, arguments);
    enum status status = copies == NULL ? error_set(&error, STATUS_MEMORY, "out of memory")
                                        : first_process_leave(&error);
    if (status != STATUS_OK) {
        return (int)output_failure(&error);
    }
    return cli_main(argument_count, copies);
}
