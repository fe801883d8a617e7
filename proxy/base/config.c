/*
 * The command line: defaults, then the file, then the options from left to right.
 *
 * The options are made of the table of keys: for each key `--net.listen VALUE`, and `--listen
 * VALUE` where it has a short name. getopt_long() takes the words apart; it would also take the
 * beginning of a name for the name, which is refused here: a later version's new key must not
 * change what an old command line means.
 *
 * Threads: the main thread at start and on SIGHUP (getopt's state is global).
 */

#include "base/config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_keys.h"

/* getopt_long() returns these; a key's options return KEY_FIRST plus its place in the table. */
enum {
    OPTION_CONFIG = 256,
    OPTION_SET,
    OPTION_CHECK,
    OPTION_HELP,
    OPTION_VERSION,
    KEY_FIRST = 512,
};

static const struct option other_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"set", required_argument, NULL, OPTION_SET},
    {"check-config", no_argument, NULL, OPTION_CHECK},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
};

enum { OTHER_OPTIONS = sizeof(other_options) / sizeof(other_options[0]) };

/* What the first pass over the arguments finds; keys wait for the second. */
struct survey {
    const char *file;
    bool check;
    bool help;
    bool version;
};

/* Ended by a row of zeros, as getopt_long() wants it. NULL: out of memory. */
static struct option *options_make(void)
{
    struct option *options = calloc(OTHER_OPTIONS + 2 * config_keys_count + 1, sizeof(*options));
    if (options == NULL) {
        return NULL;
    }
    size_t count = OTHER_OPTIONS;
    memcpy(options, other_options, sizeof(other_options));
    for (size_t i = 0; i < config_keys_count; i++) {
        int value = KEY_FIRST + (int)i;
        options[count++] = (struct option){config_keys[i].name, required_argument, NULL, value};
        if (config_keys[i].option != NULL) {
            options[count++] =
                (struct option){config_keys[i].option, required_argument, NULL, value};
        }
    }
    return options;
}

/* Whether `word` spells the option `name` in full. */
static bool spells(const char *word, const char *name)
{
    size_t size = strlen(name);
    return strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, size) == 0 &&
           (word[2 + size] == '\0' || word[2 + size] == '=');
}

static enum status refuse_word(const char *word, int option, struct error *ret_error)
{
    if (option == ':') {
        return error_set(ret_error, STATUS_INVALID, "%.200s wants a value", word);
    }
    if (option == 1) {
        return error_set(ret_error, STATUS_INVALID,
                         "\"%.200s\" is not an option; --help lists them", word);
    }
    return error_set(ret_error, STATUS_INVALID, "unknown option %.200s; --help lists them", word);
}

static enum status apply_set(struct config *config, const char *assignment, struct error *ret_error)
{
    char name[128];
    const char *equals = strchr(assignment, '=');
    size_t size = equals == NULL ? 0 : (size_t)(equals - assignment);
    if (size == 0 || size >= sizeof(name)) {
        return error_set(ret_error, STATUS_INVALID, "--set wants KEY=VALUE, not \"%.200s\"",
                         assignment);
    }
    memcpy(name, assignment, size);
    name[size] = '\0';
    const struct config_key *key = config_key_find(name);
    if (key == NULL) {
        return error_set(ret_error, STATUS_INVALID, "--set: unknown key %s; --help lists them",
                         name);
    }
    enum status status = config_key_set(config, key, equals + 1, ret_error);
    if (status != STATUS_OK) {
        (void)error_prefix(ret_error, "--set");
    }
    return status;
}

static enum status apply_option(struct config *config, int option, struct survey *survey,
                                struct error *ret_error)
{
    switch (option) {
    case OPTION_CONFIG:
        if (survey->file != NULL) {
            return error_set(ret_error, STATUS_INVALID, "--config is given twice");
        }
        survey->file = optarg;
        return STATUS_OK;
    case OPTION_CHECK:
        survey->check = true;
        return STATUS_OK;
    case OPTION_HELP:
        survey->help = true;
        return STATUS_OK;
    case OPTION_VERSION:
        survey->version = true;
        return STATUS_OK;
    case OPTION_SET:
        return config == NULL ? STATUS_OK : apply_set(config, optarg, ret_error);
    default:
        break;
    }
    if (config == NULL) {
        return STATUS_OK;
    }
    const struct config_key *key = &config_keys[option - KEY_FIRST];
    enum status status = config_key_set(config, key, optarg, ret_error);
    if (status != STATUS_OK) {
        (void)error_prefix(ret_error, "--%s", key->option == NULL ? key->name : key->option);
    }
    return status;
}

/* One pass over the arguments. `config` NULL: only *ret_survey is filled. */
static enum status read_arguments(int argument_count, char **arguments,
                                  const struct option *options, struct config *config,
                                  struct survey *ret_survey, struct error *ret_error)
{
    struct survey survey = {0};
    optind = 0; /* glibc: forget everything of the pass before */
    opterr = 0;
    for (;;) {
        int index = -1;
        int at = optind == 0 ? 1 : optind;
        /* '-': words in their order, a stray one as option 1; ':' tells a missing value apart */
        int option = getopt_long(argument_count, arguments, "-:h", options, &index);
        if (option == -1) {
            break;
        }
        if (option == 'h') {
            survey.help = true;
            continue;
        }
        const char *word = at < argument_count ? arguments[at] : "";
        if (option == '?' || option == ':' || option == 1 || index < 0 ||
            !spells(word, options[index].name)) {
            return refuse_word(word, option, ret_error);
        }
        enum status status = apply_option(config, option, &survey, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (optind < argument_count) {
        return refuse_word(arguments[optind], 1, ret_error);
    }
    *ret_survey = survey;
    return STATUS_OK;
}

static const char *value_word(enum config_type type)
{
    switch (type) {
    case CONFIG_TYPE_LISTEN:
    case CONFIG_TYPE_CONNECT:
        return "HOST:PORT";
    case CONFIG_TYPE_URI:
        return "URI";
    case CONFIG_TYPE_HTTP:
        return "URL";
    case CONFIG_TYPE_PATH:
        return "DIR";
    case CONFIG_TYPE_FILE:
        return "FILE";
    case CONFIG_TYPE_HEX:
        return "ID";
    case CONFIG_TYPE_ADDRESS:
        return "IP";
    case CONFIG_TYPE_ADDRESSES:
        return "IP,IP...";
    case CONFIG_TYPE_NAME:
        return "NAME";
    case CONFIG_TYPE_TEXT:
        return "TEXT";
    case CONFIG_TYPE_DURATION:
        return "TIME";
    case CONFIG_TYPE_SIZE:
        return "SIZE";
    case CONFIG_TYPE_CHOICE:
        return "WORD";
    case CONFIG_TYPE_NUMBER:
        break;
    }
    return "N";
}

static void print_key(const struct config_key *key)
{
    printf("  --%s %s%s%s\n", key->name, value_word(key->type),
           key->option == NULL ? "" : "    short: --", key->option == NULL ? "" : key->option);
    printf("      %s\n", key->help);
    if (key->required) {
        printf("      required\n");
    } else if (key->choices != NULL) {
        printf("      one of");
        for (size_t i = 0; key->choices[i] != NULL; i++) {
            printf("%s %s", i == 0 ? "" : ",", key->choices[i]);
        }
        printf("; default %s\n", key->standard);
    } else if (key->smallest != NULL) {
        printf("      %s to %s; default %s\n", key->smallest, key->largest, key->standard);
    } else {
        printf("      default: none\n");
    }
    if (key->live) {
        printf("      may change in the file while holdfastd runs: SIGHUP reads it again\n");
    }
}

static void print_help(void)
{
    printf("holdfastd, a write-ahead transaction proxy for MongoDB\n\n"
           "  holdfastd --listen HOST:PORT --upstream mongodb://HOST:PORT --wal DIR [options]\n"
           "  holdfastd --config FILE [options]\n\n"
           "Services connect to --listen instead of the server and use their driver's\n"
           "transactions as before; the proxy keeps them whole through crashes with the\n"
           "journal in --wal, also on a standalone server.\n\n"
           "Examples:\n"
           "  driver transactions on a standalone server; services connect to 27018:\n"
           "    holdfastd --listen 127.0.0.1:27018 --upstream mongodb://127.0.0.1:27017 \\\n"
           "        --wal /var/lib/holdfast\n"
           "  and each API call of a service one unit; callers call 8080, the service is at 9015:\n"
           "        --http-listen 127.0.0.1:8080 --http-service 127.0.0.1:9015\n"
           "  only look which services need it, and change nothing; then: holdfast observe\n"
           "        --set unit.boundary=observe\n\n"
           "Options:\n"
           "  --config FILE       read keys from a YAML file; options given here win over it\n"
           "  --set KEY=VALUE     set one key; may be repeated\n"
           "  --check-config      say whether the configuration is valid, and exit\n"
           "  --help              this text\n"
           "  --version           the version\n\n"
           "Every key below is also a key of the file: net.listen is listen: under net:.\n"
           "Several HTTP services are a sequence of the file, services:, as the shipped\n"
           "holdfast.yaml shows.\n"
           "TIME is 500ms, 5s, 30m, 24h, 7d or 10y; SIZE is 16MiB, 64GiB, 1TiB or bytes.\n");
    for (size_t g = 0; g < config_groups_count; g++) {
        size_t size = strlen(config_groups[g].name);
        printf("\n%s\n", config_groups[g].title);
        for (size_t i = 0; i < config_keys_count; i++) {
            if (strncmp(config_keys[i].name, config_groups[g].name, size) == 0 &&
                strrchr(config_keys[i].name, '.') == config_keys[i].name + size) {
                print_key(&config_keys[i]);
            }
        }
    }
    printf("\nMore: man holdfastd, man holdfastd.conf; docs/README.md says what to read first.\n");
}

/* After the first pass: what does not run the daemon, then the file, the options, the check. */
static enum status config_read(int argument_count, char **arguments, const struct option *options,
                               struct config *config, struct survey *survey,
                               struct error *ret_error)
{
    enum status status =
        read_arguments(argument_count, arguments, options, NULL, survey, ret_error);
    if (status != STATUS_OK || survey->help || survey->version) {
        return status;
    }
    if (survey->file != NULL) {
        status = config_file_apply(config, survey->file, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    status = read_arguments(argument_count, arguments, options, config, survey, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    config->check_only = survey->check;
    status = config_secrets_read(config, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    return config_check(config, ret_error);
}

enum status config_from_arguments(int argument_count, char **arguments, struct config *ret_config,
                                  enum config_action *ret_action, struct error *ret_error)
{
    struct survey survey = {0};
    enum status status = config_set_defaults(ret_config, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct option *options = options_make();
    if (options == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    status = config_read(argument_count, arguments, options, ret_config, &survey, ret_error);
    free(options);
    if (status != STATUS_OK) {
        return status;
    }
    if (survey.help) {
        print_help();
    } else if (survey.version) {
        printf("holdfastd %s\n", HOLDFAST_VERSION);
    }
    *ret_action = survey.help || survey.version ? CONFIG_EXIT : CONFIG_RUN;
    return STATUS_OK;
}
