#include "server/cli/command.h"

int
main(int argc, char **argv)
{
    return hf_cli_main(argc, argv);
}
