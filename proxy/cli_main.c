/*
 * The program `holdfast` (cli/cli.h).
 */

#include "base/first_process.h"
#include "cli/cli.h"
#include "cli/output.h"

int main(int argument_count, char **arguments)
{
    struct error error = {0};
    enum status status = first_process_leave(&error);
    if (status != STATUS_OK) {
        return (int)output_failure(&error);
    }
    return cli_main(argument_count, arguments);
}
