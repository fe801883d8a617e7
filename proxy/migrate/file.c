/*
 * Migration files (file.h): the directory, and the top of each file.
 *
 * Threads: any.
 */
#include "migrate/file.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "migrate/file_steps.h"
#include "migrate/yaml_value.h"

enum { FILE_BYTES_MAX = 16 * 1024 * 1024, FILES_MAX = 10000, DIGITS_MAX = 18 };

/* ------------------------------------------------------------------ one file's text */

static enum status checksum(struct slice text, char ret_hex[MIGRATION_CHECKSUM_BYTES],
                            struct error *ret_error)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool done = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; i < text.size && done;) {
        const uint8_t *at = memchr(text.data + i, '\r', text.size - i);
        size_t end = at == NULL ? text.size : (size_t)(at - text.data);
        bool line_end = end + 1 < text.size && text.data[end + 1] == '\n';
        size_t stop = end + (end < text.size && !line_end ? 1 : 0);
        done = EVP_DigestUpdate(context, text.data + i, stop - i) == 1;
        i = end + (end < text.size ? 1 : 0);
    }
    done = done && EVP_DigestFinal_ex(context, digest, &size) == 1;
    EVP_MD_CTX_free(context);
    if (!done) {
        return error_set(ret_error, STATUS_MEMORY, "the checksum cannot be computed");
    }
    for (unsigned int i = 0; i < size && 2 * i + 2 < MIGRATION_CHECKSUM_BYTES; i++) {
        (void)snprintf(ret_hex + (size_t)2 * i, 3, "%02x", digest[i]);
    }
    return STATUS_OK;
}

static enum status read_description(const struct yaml_file *file, const yaml_node_t *value,
                                    struct migration_file *result, struct error *ret_error)
{
    const char *text = yaml_text(value);
    if (text == NULL || strlen(text) > 1000) {
        return yaml_refuse(file, value, ret_error, "description: expected a text");
    }
    result->description = strdup(text);
    return STATUS_OK;
}

/* One key at the top. `seen`: which of them were there. */
static enum status read_key(const struct yaml_file *file, const yaml_node_pair_t *pair,
                            unsigned *seen, struct migration_file *result, struct error *ret_error)
{
    static const char *const names[] = {"description", "up", "down"};
    const yaml_node_t *key = yaml_document_get_node(file->document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(file->document, pair->value);
    const char *text = yaml_text(key);
    unsigned i = 0;
    while (i < 3 && (text == NULL || strcmp(names[i], text) != 0)) {
        i++;
    }
    if (i == 3) {
        return yaml_refuse(file, key, ret_error,
                           "unknown key %.60s; there are description, up and down",
                           text == NULL ? "" : text);
    }
    if ((*seen & 1U << i) != 0) {
        return yaml_refuse(file, key, ret_error, "%s stands here twice", text);
    }
    *seen |= 1U << i;
    if (i == 0) {
        return read_description(file, value, result, ret_error);
    }
    result->has_down = result->has_down || i == 2;
    return file_steps_read(file, value, i == 1 ? &result->up : &result->down, ret_error);
}

static enum status read_top(const struct yaml_file *file, struct migration_file *result,
                            struct error *ret_error)
{
    unsigned seen = 0;
    enum status status = STATUS_OK;
    const yaml_node_t *root = yaml_document_get_root_node(file->document);
    if (root == NULL || root->type != YAML_MAPPING_NODE) {
        return yaml_refuse(file, root, ret_error, "a migration has up: and a list of steps");
    }
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         status == STATUS_OK && pair < root->data.mapping.pairs.top; pair++) {
        status = read_key(file, pair, &seen, result, ret_error);
    }
    if (status == STATUS_OK && result->up.count == 0) {
        status = yaml_refuse(file, root, ret_error, "up: and its steps are missing");
    }
    return status;
}

static enum status refuse_yaml(const yaml_parser_t *parser, const char *name,
                               struct error *ret_error)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        return error_set(ret_error, STATUS_MEMORY, "%s: out of memory", name);
    }
    return error_set(ret_error, STATUS_INVALID, "%s:%lu: not YAML or JSON: %s", name,
                     (unsigned long)parser->problem_mark.line + 1,
                     parser->problem == NULL ? "unreadable" : parser->problem);
}

static enum status refuse_second_document(yaml_parser_t *parser, const char *name,
                                          struct error *ret_error)
{
    yaml_document_t document;
    if (yaml_parser_load(parser, &document) == 0) {
        return refuse_yaml(parser, name, ret_error);
    }
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    enum status status = root == NULL
                             ? STATUS_OK
                             : error_set(ret_error, STATUS_INVALID, "%s:%lu: a second document",
                                         name, yaml_line(root));
    yaml_document_delete(&document);
    return status;
}

enum status migration_parse(struct slice text, const char *name, struct migration_file *ret_file,
                            struct error *ret_error)
{
    struct migration_file result = {0};
    yaml_parser_t parser;
    yaml_document_t document;
    enum status status = checksum(text, result.checksum, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (yaml_parser_initialize(&parser) == 0) {
        return error_set(ret_error, STATUS_MEMORY, "%s: out of memory", name);
    }
    yaml_parser_set_input_string(&parser, text.data, text.size);
    if (yaml_parser_load(&parser, &document) == 0) {
        status = refuse_yaml(&parser, name, ret_error);
        goto out;
    }
    struct yaml_file file = {.name = name, .document = &document};
    bool empty = yaml_document_get_root_node(&document) == NULL;
    status = read_top(&file, &result, ret_error);
    yaml_document_delete(&document);
    if (status == STATUS_OK && !empty) {
        status = refuse_second_document(&parser, name, ret_error);
    }
out:
    yaml_parser_delete(&parser);
    if (status == STATUS_OK) {
        *ret_file = result;
    } else {
        migration_file_free(&result);
    }
    return status;
}

void migration_file_free(struct migration_file *file)
{
    free(file->name);
    free(file->path);
    free(file->description);
    step_list_free(&file->up);
    step_list_free(&file->down);
    *file = (struct migration_file){0};
}

/* ------------------------------------------------------------------ the directory */

/* It is printed, and stored as text. */
static bool is_printable(const char *name)
{
    for (const char *at = name; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            return false;
        }
    }
    return bson_utf8_validate(name, strlen(name), false);
}

/* False: it is not meant to be a migration. */
static bool is_candidate(const char *name)
{
    const char *ending = strrchr(name, '.');
    return name[0] != '.' && ending != NULL &&
           (strcmp(ending, ".yaml") == 0 || strcmp(ending, ".yml") == 0 ||
            strcmp(ending, ".json") == 0);
}

static enum status take_name(const char *name, struct migration_file *file, struct error *ret_error)
{
    size_t digits = strspn(name, "0123456789");
    const char *rest = name + digits;
    size_t size = (size_t)(strrchr(name, '.') - rest);
    long long version = digits > 0 && digits <= DIGITS_MAX ? strtoll(name, NULL, 10) : 0;
    if (version <= 0 || rest[0] != '_' || size < 2 || size > 200 || !is_printable(name)) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s: a migration's file is named NUMBER_NAME.yaml, for example "
                         "0001_add_status.yaml",
                         name);
    }
    file->version = version;
    file->name = strndup(rest + 1, size - 1);
    return file->name != NULL ? STATUS_OK : error_set(ret_error, STATUS_MEMORY, "out of memory");
}

static enum status read_text(const char *path, uint8_t **ret_bytes, size_t *ret_size,
                             struct error *ret_error)
{
    FILE *file = fopen(path, "rbe");
    struct stat found;
    if (file == NULL || fstat(fileno(file), &found) != 0 || !S_ISREG(found.st_mode)) {
        int failure = file == NULL ? errno : EINVAL;
        if (file != NULL) {
            (void)fclose(file);
        }
        return error_set(ret_error, STATUS_INVALID, "cannot read %s: %s", path, strerror(failure));
    }
    uint8_t *bytes = malloc(FILE_BYTES_MAX + 1);
    size_t size = bytes == NULL ? 0 : fread(bytes, 1, FILE_BYTES_MAX + 1, file);
    bool failed = ferror(file) != 0;
    (void)fclose(file);
    if (bytes == NULL || failed || size > FILE_BYTES_MAX) {
        free(bytes);
        return bytes == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory")
               : failed      ? error_set(ret_error, STATUS_INVALID, "cannot read %s", path)
                        : error_set(ret_error, STATUS_INVALID, "%s is larger than 16 MiB: split it",
                                    path);
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return STATUS_OK;
}

static enum status read_file(const char *directory, const char *name, struct migration_file *file,
                             struct error *ret_error)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    char *path = NULL;
    struct migration_file named = {0};
    if (asprintf(&path, "%s%s%s", directory, directory[strlen(directory) - 1] == '/' ? "" : "/",
                 name) < 0) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = take_name(name, &named, ret_error);
    if (status == STATUS_OK) {
        status = read_text(path, &bytes, &size, ret_error);
    }
    if (status == STATUS_OK) {
        status = migration_parse(slice_make(bytes, size), path, file, ret_error);
    }
    free(bytes);
    if (status != STATUS_OK) {
        free(path);
        migration_file_free(&named);
        return status;
    }
    file->version = named.version;
    file->name = named.name;
    file->path = path;
    return STATUS_OK;
}

static int by_version(const void *a, const void *b)
{
    int64_t first = ((const struct migration_file *)a)->version;
    int64_t second = ((const struct migration_file *)b)->version;
    return first < second ? -1 : first > second ? 1 : 0;
}

static enum status check_versions(const struct migration_folder *folder, struct error *ret_error)
{
    for (size_t i = 1; i < folder->count; i++) {
        if (folder->files[i].version == folder->files[i - 1].version) {
            return error_set(ret_error, STATUS_INVALID, "%s and %s have the same number",
                             folder->files[i - 1].path, folder->files[i].path);
        }
    }
    return STATUS_OK;
}

static enum status add_file(struct migration_folder *folder, const char *directory,
                            const char *name, struct error *ret_error)
{
    if (folder->count == FILES_MAX) {
        return error_set(ret_error, STATUS_INVALID, "%s: more than %d migrations", directory,
                         FILES_MAX);
    }
    struct migration_file *more = reallocarray(folder->files, folder->count + 1, sizeof(*more));
    if (more == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    folder->files = more;
    enum status status = read_file(directory, name, &folder->files[folder->count], ret_error);
    folder->count += status == STATUS_OK ? 1 : 0;
    return status;
}

enum status migration_folder_read(const char *directory, struct migration_folder *ret_folder,
                                  struct error *ret_error)
{
    struct migration_folder folder = {0};
    DIR *open = directory[0] == '\0' ? NULL : opendir(directory);
    if (open == NULL) {
        return error_set(ret_error, STATUS_NOT_FOUND, "cannot read the directory %s: %s", directory,
                         strerror(directory[0] == '\0' ? ENOENT : errno));
    }
    enum status status = STATUS_OK;
    const struct dirent *entry = NULL;
    while (status == STATUS_OK && (entry = readdir(open)) != NULL) {
        if (is_candidate(entry->d_name)) {
            status = add_file(&folder, directory, entry->d_name, ret_error);
        }
    }
    (void)closedir(open);
    if (folder.count > 1) {
        qsort(folder.files, folder.count, sizeof(folder.files[0]), by_version);
    }
    if (status == STATUS_OK) {
        status = check_versions(&folder, ret_error);
    }
    if (status != STATUS_OK) {
        migration_folder_free(&folder);
        return status;
    }
    *ret_folder = folder;
    return STATUS_OK;
}

void migration_folder_free(struct migration_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++) {
        migration_file_free(&folder->files[i]);
    }
    free(folder->files);
    *folder = (struct migration_folder){0};
}

const struct migration_file *migration_folder_find(const struct migration_folder *folder,
                                                   int64_t version)
{
    for (size_t i = 0; i < folder->count; i++) {
        if (folder->files[i].version == version) {
            return &folder->files[i];
        }
    }
    return NULL;
}
