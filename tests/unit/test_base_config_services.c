/*
 * services: in the configuration file: every field, every mistake with its line, the whole list,
 * and that none of it changes without a restart.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/config_keys.h"
#include "holdfast/limits.h"

#define ONE "services:\n- name: a\n  listen: h:1\n  service: h:2\n"
#define TWO ONE "  mongo: h:3\n- name: b\n  listen: h:4\n  service: h:2\n"
#define MANY "services:\n- name: m\n  listen: h:10\n"
/* 127 bytes */
#define LONGEST                                                                                    \
    "1234567890123456789012345678901234567890123456789012345678901234567890"                       \
    "123456789012345678901234567890123456789012345678901234567"
#define REQUIRED "net.listen: n:1\nupstream.uri: mongodb://h\nwal.directory: /j\n"

static enum status apply(struct config *config, const char *yaml, struct error *ret_error)
{
    struct error ignored;
    assert_int_equal(config_set_defaults(config, &ignored), STATUS_OK);
    memset(ret_error, 0, sizeof(*ret_error));
    enum status status = config_yaml_apply(config, slice_text(yaml), "f.yaml", ret_error);
    return status == STATUS_OK ? config_check(config, ret_error) : status;
}

static void must_apply(struct config *config, const char *yaml)
{
    struct error error;
    if (apply(config, yaml, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
}

static void test_every_field_is_read(void **state)
{
    (void)state;
    struct config config;
    must_apply(&config, REQUIRED ONE "  appName: " LONGEST "\n");
    assert_int_equal(strlen(config.services[0].application), LIMIT_APPLICATION_BYTES - 1);
    config_free(&config);
    must_apply(&config, REQUIRED "services:\n"
                                 "  - name: orchestrator\n"
                                 "    listen: 127.0.0.1:8080\n"
                                 "    service: 127.0.0.1:9015\n"
                                 "    inside: 127.0.0.1:8081\n"
                                 "    peers: 10.0.0.5, 10.0.0.6\n"
                                 "    mongo: 127.0.0.1:27018\n"
                                 "    domain: emco\n"
                                 "  - {name: dcm, listen: 'h:0', service: 'h:2', appName: d c m}\n"
                                 "  - name: ncm\n"
                                 "    address: FD00:0:0::1\n"
                                 "    inside: \"\"\n"
                                 "    listen: h:0\n"
                                 "    service: h:2\n");
    assert_int_equal(config.services_count, 3);
    const struct config_service *first = &config.services[0];
    assert_string_equal(first->name, "orchestrator");
    assert_string_equal(first->listen, "127.0.0.1:8080");
    assert_string_equal(first->service, "127.0.0.1:9015");
    assert_string_equal(first->inside, "127.0.0.1:8081");
    assert_string_equal(first->peers, "10.0.0.5, 10.0.0.6");
    assert_string_equal(first->mongo, "127.0.0.1:27018");
    assert_string_equal(first->application, "");
    assert_string_equal(first->address, "");
    assert_string_equal(first->domain, "emco");
    assert_string_equal(config.services[1].application, "d c m");
    assert_string_equal(config.services[1].domain, "dcm");
    assert_string_equal(config.services[1].mongo, "");
    assert_string_equal(config.services[2].address, "fd00::1"); /* as a peer's is written */
    assert_string_equal(config.services[2].inside, "");
    config_free(&config);
    config_free(&config); /* twice is harmless */
    assert_null(config.services);
}

static void test_instances_are_read(void **state)
{
    (void)state;
    struct config config;
    struct config_service *list = NULL;
    size_t count = 0;
    struct error error;
    must_apply(&config, REQUIRED MANY "  instances:\n"
                                      "  - {service: 'h:11', mongo: 'h:12'}\n"
                                      "  - service: h:13\n"
                                      "    address: FD00:0:0::1\n"
                                      "  - {service: 'h:14', appName: m 3}\n");
    assert_int_equal(config_services_complete(&config, &list, &count, &error), STATUS_OK);
    for (size_t i = 0; i < 2; i++) {
        const struct config_service *service = i == 0 ? config.services : list;
        assert_int_equal(service->instances_count, 3);
        assert_string_equal(service->service, "");
        assert_string_equal(service->domain, "m");
        assert_string_equal(service->instances[0].name, "m");
        assert_string_equal(service->instances[0].service, "h:11");
        assert_string_equal(service->instances[0].mongo, "h:12");
        assert_string_equal(service->instances[0].address, "");
        assert_string_equal(service->instances[1].address, "fd00::1");
        assert_string_equal(service->instances[2].application, "m 3");
        assert_null(service->instances[2].instances);
    }
    config_services_free(list, count);
    config_free(&config);
}

static void test_none_are_fine(void **state)
{
    (void)state;
    static const char *const none[] = {REQUIRED "services:\n", REQUIRED "services: []\n"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        struct config config;
        must_apply(&config, none[i]);
        assert_null(config.services);
        config_free(&config);
    }
}

static void test_mistakes_are_named_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const char *message;
    } cases[] = {
        {"services: 5\n", "f.yaml:1: services: wants a sequence"},
        {"services:\n  name: a\n", "f.yaml:2: services: wants a sequence"},
        {"services:\n- a\n", "f.yaml:2: services: a service is keys with values"},
        {"services:\n-\n", "f.yaml:2: services: a service is keys with values"},
        {"services:\n- [a]\n", "f.yaml:2: services: a service is keys with values"},
        {"services: &s [*s]\n", "f.yaml:1: services: a service is keys with values"},
        {"net:\n  services: []\n", "f.yaml:2: unknown key net.services"},
        {"services: []\nservices: []\n",
         "f.yaml:2: services is set a second time, first in line 1"},
        {ONE "  mongo: h:3\n  colour: red\n", "f.yaml:6: services: unknown key colour"},
        {ONE "  ? [x]\n  : y\n", "services: a key must be plain text"},
        {ONE "  listen: h:5\n", "f.yaml:5: services: listen is set a second time, first in line 3"},
        {ONE "  mongo: [h:3]\n", "f.yaml:5: services: mongo wants one plain value"},
        {ONE "  mongo: \"h:\\0\"\n", "f.yaml:5: services: mongo wants one plain value"},
        {ONE "  mongo: nowhere\n", "f.yaml:5: services: mongo: \"nowhere\" is not HOST:PORT"},
        {ONE "  inside: h\n", "f.yaml:5: services: inside: \"h\" is not HOST:PORT"},
        {ONE "  peers: h\n", "f.yaml:5: services: peers: \"h\" is not a list of IP addresses"},
        {ONE "  address: 1.2.3.4, ::1\n",
         "f.yaml:5: services: address: \"1.2.3.4, ::1\" is not an"},
        {ONE "  appName: \"a\\nb\"\n", "f.yaml:5: services: appName: holds a control character"},
        {ONE "  domain: a b\n", "f.yaml:5: services: domain: \"a b\" is not 1 to 64 letters"},
        {"services:\n- name: a/b\n", "f.yaml:2: services: name: \"a/b\" is not 1 to 64"},
        {"services:\n- name: 12345678901234567890123456789012345678901234567890123456789012345\n",
         "is not 1 to 64"},
        {"services:\n- service: h:0\n", "f.yaml:2: services: service: \"h:0\" is not HOST:PORT"},
        {"services:\n- {}\n", "f.yaml:2: services: name is missing"},
        {"services:\n- name: \"\"\n", "f.yaml:2: services: name is missing"},
        {"services:\n- name: a\n  service: h:1\n", "f.yaml:2: services: listen is missing"},
        {"services:\n- name: a\n  listen: h:1\n", "f.yaml:2: services: service is missing"},
        {ONE, "f.yaml:2: services: \"a\" wants exactly one of mongo, appName and address"},
        {ONE "  mongo: h:3\n  appName: a\n", "f.yaml:2: services: \"a\" wants exactly one of"},
        {ONE "  mongo: h:1\n", "f.yaml:2: services: listen of \"a\" is the same address as mongo"},
        {TWO "  mongo: h:1\n", "f.yaml:6: services: mongo of \"b\" is the same address as listen"},
        {TWO "  inside: H:3\n  appName: b\n",
         "f.yaml:6: services: inside of \"b\" is the same address as mongo of \"a\""},
        {ONE "  mongo: h:3\n- name: a\n  listen: h:4\n  service: h:2\n  appName: b\n",
         "f.yaml:6: services: the name \"a\" is given to two services"},
        {ONE "  appName: x\n- name: b\n  listen: h:4\n  service: h:2\n  appName: x\n",
         "f.yaml:6: services: the appName \"x\" is given to two services"},
        {ONE "  address: ::1\n- name: b\n  listen: h:4\n  service: h:2\n  address: 0::1\n",
         "f.yaml:6: services: the address \"::1\" is given to two services"},
        {REQUIRED TWO "  mongo: n:1\n", "mongo of \"b\" is the same address as net.listen"},
        {REQUIRED "admin.listen: h:4\n" TWO "  mongo: h:5\n",
         "listen of \"b\" is the same address as admin.listen"},
        {REQUIRED "http: {listen: h:8, service: h:9}\n"
                  "services: [{name: service, listen: h:1, service: h:2, mongo: h:3}]\n",
         "the name \"service\" is that of http.service"},
        {REQUIRED "http: {listen: h:8, service: h:9}\n" ONE "  appName: a\n",
         "services: \"a\": with http.listen all of net.listen is http.service's: appName and"},
        {REQUIRED "http: {listen: h:8, service: h:9}\n" TWO "  address: 10.0.0.5\n",
         "services: \"b\": with http.listen all of net.listen is http.service's: appName and"},
        {REQUIRED "http: {listen: h:8, service: h:9}\n" MANY
                  "  instances: [{service: 'h:1', mongo: 'h:2'}, {service: 'h:3', appName: x}]\n",
         "services: \"m\": with http.listen all of net.listen is http.service's: appName and"},
        {ONE "  appName: " LONGEST "x\n",
         "f.yaml:2: services: an appName is longer than 127 bytes"},
        {MANY "  instances: [{service: 'h:1', appName: " LONGEST "x}]\n",
         "f.yaml:4: services: an appName is longer than 127 bytes"},
        {ONE "  address: 10.0.0.7\n- name: b\n  listen: h:4\n  service: h:2\n"
             "  address: ::ffff:a00:7\n",
         "f.yaml:6: services: the address \"10.0.0.7\" is given to two services"},
        {MANY "  instances: 5\n", "f.yaml:4: services: instances wants a sequence of 1 to 256"},
        {MANY "  instances: []\n", "f.yaml:4: services: instances wants a sequence of 1 to 256"},
        {MANY "  instances: [5]\n", "f.yaml:4: services: an instance is keys with values"},
        {MANY "  instances:\n  - {mongo: 'h:1'}\n",
         "f.yaml:5: services: service of an instance is missing"},
        {MANY "  instances:\n  - {service: 'h:1'}\n",
         "f.yaml:5: services: an instance wants exactly one of mongo, appName and address"},
        {MANY "  instances:\n  - {service: 'h:1', mongo: 'h:2', appName: x}\n",
         "f.yaml:5: services: an instance wants exactly one of mongo, appName and address"},
        {MANY "  instances:\n  - {service: 'h:1', mongo: 'h:2', inside: 'h:3'}\n",
         "f.yaml:5: services: unknown key inside of an instance"},
        {MANY "  instances:\n  - {service: 'h:1', mongo: 'h:2', instances: []}\n",
         "f.yaml:5: services: unknown key instances of an instance"},
        {MANY "  instances: [{service: 'h:1', mongo: 'h:2'}]\n  instances: []\n",
         "f.yaml:5: services: instances is set a second time, first in line 4"},
        {MANY "  service: h:1\n  instances: [{service: 'h:1', mongo: 'h:2'}]\n",
         "f.yaml:2: services: \"m\" has instances: service is each one's own"},
        {MANY "  mongo: h:1\n  instances: [{service: 'h:1', mongo: 'h:2'}]\n",
         "f.yaml:2: services: \"m\" has instances: mongo is each one's own"},
        {MANY "  inside: h:7\n  instances: [{service: 'h:1', mongo: 'h:2'}]\n",
         "whose call one by inside or peers belongs to cannot be told"},
        {MANY "  peers: 10.0.0.5\n  instances: [{service: 'h:1', mongo: 'h:2'}]\n",
         "whose call one by inside or peers belongs to cannot be told"},
        {MANY "  instances: [{service: 'h:1', mongo: 'h:2'}, {service: 'h:1', mongo: 'h:3'}]\n",
         "instances of \"m\": the service \"h:1\" is another's as well"},
        {MANY "  instances: [{service: 'h:1', mongo: 'h:2'}, {service: 'h:3', mongo: 'H:2'}]\n",
         "instances of \"m\": the mongo \"h:2\" is another listener's as well"},
        {MANY "  instances: [{service: 'h:1', appName: x}, {service: 'h:3', appName: x}]\n",
         "instances of \"m\": the appName \"x\" is another's as well"},
        {MANY
         "  instances: [{service: 'h:1', address: '::1'}, {service: 'h:3', address: '0::1'}]\n",
         "instances of \"m\": the address \"::1\" is another's as well"},
        {MANY "  instances: [{service: 'h:1', mongo: 'h:10'}]\n",
         "instances of \"m\": the mongo \"h:10\" is another listener's as well"},
        {MANY "  instances: [{service: 'h:1', mongo: 'h:2'}]\n"
              "- {name: b, listen: 'h:2', service: 'h:5', appName: b}\n",
         "f.yaml:5: services: instances of \"m\": the mongo \"h:2\" is another listener's as well"},
        {"services:\n- {name: b, listen: 'h:2', service: 'h:5', appName: x}\n"
         "- {name: m, listen: 'h:3', instances: [{service: 'h:1', appName: x}]}\n",
         "f.yaml:3: services: instances of \"m\": the appName \"x\" is another's as well"},
        {"services:\n- {name: b, listen: 'h:2', service: 'h:5', appName: x, domain: m}\n"
         "- {name: m, listen: 'h:3', instances: [{service: 'h:1', appName: y}]}\n",
         "f.yaml:3: services: the domain \"m\" has a service with instances: no other"},
        {REQUIRED MANY "  instances: [{service: 'h:1', mongo: 'n:1'}]\n",
         "mongo of \"m\" is the same address as net.listen"},
        {REQUIRED "http.correlation: trace\n" MANY
                  "  instances: [{service: 'h:1', mongo: 'h:2'}]\n",
         "http.correlation: trace cannot be had with them"},
        {REQUIRED MANY "  upstreamTls: requireTLS\n"
                       "  instances: [{service: 'h:1', mongo: 'h:2'}]\n",
         "upstreamTlsServerName has to name what is in the certificate of each"},
        {REQUIRED "http.reads: wait\n" MANY "  instances: [{service: 'h:1', mongo: 'h:2'}]\n",
         "http.reads: wait cannot be had with them"},
        {REQUIRED "unit.lifetime: 5s\n" TWO "  mongo: h:5\n",
         "http.callTimeout is longer than unit.lifetime (30000 ms and 5000 ms)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config config;
        struct error error;
        enum status status = apply(&config, cases[i].yaml, &error);
        if (status != STATUS_INVALID || strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s: %s %s", cases[i].yaml, status_name(status), error.message);
        }
        if (strncmp(error.message, "f.yaml", 6) == 0) {
            assert_null(config.services); /* whole or not at all */
        }
        config_free(&config);
    }
}

static void test_tls_with_services(void **state)
{
    static const struct {
        const char *yaml;
        const char *last; /* what stands last in the list: on, CAFile, key file, name */
    } cases[] = {
        {ONE "  mongo: h:3\n", "0   h"},
        {ONE "  mongo: h:3\n  upstreamTls: requireTLS\n", "1   h"},
        {"http: {upstreamTls: {mode: requireTLS, CAFile: /c, certificateKeyFile: /k}}\n" ONE
         "  mongo: h:3\n  upstreamTlsCAFile: /d\n",
         "1 /d /k h"},
        {"http: {upstreamTls: {mode: requireTLS, serverName: n}}\n" ONE
         "  mongo: h:3\n  upstreamTls: disabled\n",
         "0   n"},
        {"http: {upstreamTls: {CAFile: /c}}\n"
         "services: [{name: a, listen: 'h:1', service: '[::1]:2', mongo: 'h:3', "
         "upstreamTls: requireTLS, upstreamProtocol: h2}]\n",
         "1 /c  ::1"},
        {"http: {listen: 'h:1', service: 'x.y:2', upstreamTls: {mode: requireTLS}}\n", "1   x.y"},
        {ONE "  mongo: h:3\n  upstreamTls: requireTLS\n  upstreamTlsCertificateKeyFile: /k\n"
             "  upstreamTlsServerName: m\n",
         "1  /k m"},
    };
    static const struct {
        const char *yaml;
        const char *message;
    } wrong[] = {
        {ONE "  mongo: h:3\n  upstreamTls: yes\n",
         "f.yaml:2: services: upstreamTls: \"yes\" is not one of disabled and requireTLS"},
        {REQUIRED ONE "  mongo: h:3\n  upstreamTlsCAFile: /c\n",
         "services: \"a\" is spoken to without TLS"},
        {REQUIRED "http: {upstreamTls: {CAFile: /c}}\n", "http.upstreamTls: its other keys"},
        {REQUIRED "http: {upstreamTls: {serverName: n}}\n" ONE "  mongo: h:3\n",
         "http.upstreamTls: its other keys"},
        {REQUIRED "http: {upstreamProtocol: h2}\n" ONE "  mongo: h:3\n", "say h2c"},
        {REQUIRED ONE "  mongo: h:3\n  upstreamTls: requireTLS\n  upstreamProtocol: h2c\n",
         "the service \"a\": upstreamProtocol h2c is HTTP/2 without TLS"},
        {REQUIRED "http: {listen: 'h:1', service: 'h:2', upstreamProtocol: h2}\n",
         "the service \"service\": upstreamProtocol"},
    };
    struct config config;
    struct error error;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config_service *list = NULL;
        struct config_service_tls tls;
        size_t count = 0;
        char yaml[1024];
        char found[600];
        (void)snprintf(yaml, sizeof(yaml), "%s%s", REQUIRED, cases[i].yaml);
        must_apply(&config, yaml);
        assert_int_equal(config_services_complete(&config, &list, &count, &error), STATUS_OK);
        config_service_tls(&config, &list[count - 1], &tls);
        (void)snprintf(found, sizeof(found), "%d %s %s %s", tls.on, tls.ca_file,
                       tls.certificate_key_file, tls.server_name);
        assert_string_equal(found, cases[i].last);
        config_services_free(list, count);
        config_free(&config);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        enum status status = apply(&config, wrong[i].yaml, &error);
        if (status != STATUS_INVALID || strstr(error.message, wrong[i].message) == NULL) {
            fail_msg("%s: %s %s", wrong[i].yaml, status_name(status), error.message);
        }
        config_free(&config);
    }
}

static void test_as_many_as_may_be_and_one_more(void **state)
{
    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        static char yaml[65536] = "";
        size_t used = (size_t)snprintf(yaml, sizeof(yaml), "%sservices:\n", REQUIRED);
        for (unsigned i = 0; i < CONFIG_SERVICES_MAX + more; i++) {
            used += (size_t)snprintf(yaml + used, sizeof(yaml) - used,
                                     "- {name: s%u, listen: 'h:%u', service: 'h:1', mongo: h:0}\n",
                                     i, i + 2);
        }
        struct config config;
        struct error error;
        enum status status = apply(&config, yaml, &error);
        assert_int_equal(status, more == 0 ? STATUS_OK : STATUS_INVALID);
        if (more > 0) {
            assert_non_null(strstr(error.message, "services: more than 256"));
        }
        config_free(&config);
    }
}

static void test_the_whole_list_has_that_of_the_options(void **state)
{
    (void)state;
    static const char *const with[] = {"", "http: {listen: h:8, service: h:9, inside: h:7, "
                                           "peers: 10.0.0.5}\n"};
    static const char *const services[] = {"", TWO "  mongo: h:6\n"};
    for (size_t i = 0; i < 4; i++) {
        struct config config;
        struct error error;
        struct config_service *list = (void *)&config; /* to be overwritten */
        size_t count = 99;
        char yaml[1024];
        size_t first = i % 2;
        (void)snprintf(yaml, sizeof(yaml), "%s%s%s", REQUIRED, with[i % 2], services[i / 2]);
        must_apply(&config, yaml);
        assert_int_equal(config_services_complete(&config, &list, &count, &error), STATUS_OK);
        config_free(&config); /* the list is a copy */
        assert_int_equal(count, i % 2 + (i / 2) * 2);
        if (count == 0) {
            assert_null(list);
        }
        if (first > 0 && list != NULL) {
            assert_string_equal(list[0].name, "service");
            assert_string_equal(list[0].domain, "default");
            assert_string_equal(list[0].listen, "h:8");
            assert_string_equal(list[0].service, "h:9");
            assert_string_equal(list[0].inside, "h:7");
            assert_string_equal(list[0].peers, "10.0.0.5");
            assert_string_equal(list[0].mongo, "");
            assert_string_equal(list[0].application, "");
            assert_string_equal(list[0].address, "");
        }
        if (i / 2 > 0 && list != NULL) {
            assert_string_equal(list[first].name, "a");
            assert_string_equal(list[first].mongo, "h:3");
            assert_string_equal(list[first + 1].mongo, "h:6");
            assert_string_equal(list[first + 1].domain, "b");
        }
        config_services_free(list, count);
    }
    config_services_free(NULL, 0);
}

static void on_changed(void *context, const char *key, bool live)
{
    size_t *changes = context;
    ++*changes;
    assert_string_equal(key, "services");
    assert_false(live);
}

static void test_a_change_waits_for_a_restart(void **state)
{
    (void)state;
    static const char *const others[] = {
        "",                                /* fewer */
        TWO "  appName: c\n",              /* another text */
        TWO "  appName: b\n  domain: d\n", /* one more text */
        TWO "  appName: b\n- {name: c, listen: h:7, service: h:8, address: fd00::1}\n", /* more */
        ONE "  mongo: h:3\n- {name: b, listen: 'h:4', instances: [{service: 'h:9', appName: b}]}\n",
    };
    struct config running;
    size_t changes = 0;
    must_apply(&running, REQUIRED TWO "  appName: b\n");
    const struct config_service *before = running.services;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct config next;
        char yaml[1024];
        (void)snprintf(yaml, sizeof(yaml), "%s%s", REQUIRED, others[i]);
        must_apply(&next, yaml);
        config_take_over(&running, &next, on_changed, &changes);
        assert_int_equal(changes, i + 1); /* once */
        assert_ptr_equal(running.services, before);
        assert_int_equal(running.services_count, 2);
        assert_string_equal(running.services[1].application, "b");
        config_free(&next);
    }
    struct config same;
    must_apply(&same, REQUIRED TWO "  appName: b\n  domain: b\n  inside: \"\"\n");
    config_take_over(&running, &same, on_changed, &changes);
    assert_int_equal(changes, sizeof(others) / sizeof(others[0]));
    config_free(&same);
    config_free(&running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_is_read),
        cmocka_unit_test(test_instances_are_read),
        cmocka_unit_test(test_none_are_fine),
        cmocka_unit_test(test_mistakes_are_named_with_their_line),
        cmocka_unit_test(test_tls_with_services),
        cmocka_unit_test(test_as_many_as_may_be_and_one_more),
        cmocka_unit_test(test_the_whole_list_has_that_of_the_options),
        cmocka_unit_test(test_a_change_waits_for_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
