/* Secret files: one line, for their owner's eyes; and passwords out of what ps shows. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"

static void write_file(char *path, const char *bytes, size_t size, mode_t mode)
{
    strcpy(path, "/tmp/holdfast-secret-XXXXXX");
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, bytes, size), (ssize_t)size);
    assert_int_equal(fchmod(descriptor, mode), 0);
    close(descriptor);
}

static void test_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *text; /* NULL: refused */
    } cases[] = {
        {"word", 4, "word"},        {"two words\n", 10, "two words"},
        {"word \r\n\n", 8, "word"}, {"", 0, NULL},
        {"\n \n", 3, NULL},         {"one\ntwo\n", 8, NULL},
        {"wo\0rd\n", 6, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[64];
        char *text = NULL;
        struct error error = {0};
        write_file(path, cases[i].bytes, cases[i].size, 0600);
        enum status status = secret_file_read("a key", path, &text, &error);
        assert_int_equal(status, cases[i].text == NULL ? STATUS_INVALID : STATUS_OK);
        if (cases[i].text == NULL) {
            assert_null(text);
            assert_non_null(strstr(error.message, "a key: "));
        } else {
            assert_string_equal(text, cases[i].text);
        }
        secret_free(text);
        unlink(path);
    }
}

static void test_too_long(void **state)
{
    (void)state;
    static char bytes[SECRET_FILE_BYTES_MAX + 1];
    char path[64];
    char *text = NULL;
    memset(bytes, 'x', sizeof bytes);
    write_file(path, bytes, sizeof bytes, 0600);
    assert_int_equal(secret_file_read("a key", path, &text, NULL), STATUS_INVALID);
    unlink(path);
    write_file(path, bytes, sizeof bytes - 1, 0600);
    assert_int_equal(secret_file_read("a key", path, &text, NULL), STATUS_OK);
    assert_int_equal(strlen(text), SECRET_FILE_BYTES_MAX);
    secret_free(text);
    unlink(path);
}

static void test_others_must_not_read_it(void **state)
{
    (void)state;
    /* A file of root's may be for a group as well. */
    const enum status group = geteuid() == 0 ? STATUS_OK : STATUS_INVALID;
    const struct {
        mode_t mode;
        enum status status;
    } cases[] = {
        {0600, STATUS_OK},      {0400, STATUS_OK},      {0640, group},
        {0650, STATUS_INVALID}, {0660, STATUS_INVALID}, {0644, STATUS_INVALID},
        {0604, STATUS_INVALID}, {0602, STATUS_INVALID}, {0620, STATUS_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[64];
        struct error error = {0};
        write_file(path, "word", 4, cases[i].mode);
        assert_int_equal(secret_file_check("a key", path, &error), cases[i].status);
        if (cases[i].status != STATUS_OK) {
            assert_non_null(strstr(error.message, "chmod 600"));
        }
        unlink(path);
    }
    if (geteuid() == 0) {
        char path[64];
        write_file(path, "word", 4, 0640);
        assert_int_equal(chown(path, 1, 1), 0);
        assert_int_equal(secret_file_check("a key", path, NULL), STATUS_INVALID);
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(secret_file_check("a key", path, NULL), STATUS_OK);
        unlink(path);
    }
    assert_int_equal(secret_file_check("a key", "/tmp", NULL), STATUS_INVALID);
    assert_int_equal(secret_file_check("a key", "/nonexistent", NULL), STATUS_INVALID);
}

static void test_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *given;
        const char *shown;
    } cases[] = {
        {"--upstream", "--upstream"},
        {"mongodb://h:1/?tls=true", "mongodb://h:1/?tls=true"},
        {"mongodb://u@h:1", "mongodb://u@h:1"},
        {"mongodb://u:secret@h:1/?a=b", "mongodb://u:******@h:1/?a=b"},
        {"--upstream=mongodb://u:p%40@h", "--upstream=mongodb://u:****@h"},
        {"upstream.uri=mongodb://u:a:b@h", "upstream.uri=mongodb://u:***@h"},
        {"mongodb://u:a@b@h", "mongodb://u:***@h"},
        {"mongodb://u:a/b@h", "mongodb://u:***@h"},
        {"mongodb://h/?tlsCertificateKeyFilePassword=xyz&tls=true",
         "mongodb://h/?tlsCertificateKeyFilePassword=***&tls=true"},
        {"mongodb://h/?TLSCERTIFICATEKEYFILEPASSWORD=xyz&a=b",
         "mongodb://h/?TLSCERTIFICATEKEYFILEPASSWORD=***&a=b"},
        {"mongodb://h/?sslClientCertificateKeyPassword=xyz",
         "mongodb://h/?sslClientCertificateKeyPassword=***"},
        {"mongodb://u:password=@h/?a=b&sslclientcertificatekeypassword=x&"
         "tlsCertificateKeyFilePassword=y",
         "mongodb://u:*********@h/?a=b&sslclientcertificatekeypassword=*&"
         "tlsCertificateKeyFilePassword=*"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *arguments[] = {strdup("holdfastd"), strdup(cases[i].given), NULL};
        char **copies = secret_hide_arguments(2, arguments);
        assert_string_equal(arguments[1], cases[i].shown);
        assert_string_equal(copies[1], cases[i].given);
        assert_null(copies[2]);
        for (size_t j = 0; j < 2; j++) {
            free(arguments[j]);
            free(copies[j]);
        }
        free(copies);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_others_must_not_read_it),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
