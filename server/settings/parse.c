#include "server/settings/parse.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "server/settings/table.h"

#define DEPTH_MOST 5 // the file, "sources", one source, a group in it, a list in that
#define KEYS_MOST  HF_SETTINGS_SOURCES_MOST

enum frame_kind {
    FRAME_TOP,      // keys are settings and groups of the appliance
    FRAME_GROUP,    // keys are settings "<group>.<key>", of a source when it stands in one
    FRAME_SOURCES,  // keys are names of sources
    FRAME_SOURCE,   // keys are settings of one source
    FRAME_COMMANDS, // keys are names of key commands
    FRAME_COMMAND,  // keys are settings of one key command
    FRAME_LIST,     // no keys: entries of a PATHS or RUN setting
};

struct key {
    char *name;
    unsigned line;
};

/* One level of nesting.  In a mapping the last key waits for its value while `pending`. */
struct frame {
    enum frame_kind kind;
    char group[64];                    // FRAME_GROUP: its name
    struct hf_source_settings *source; // FRAME_SOURCE, and a FRAME_GROUP in one: borrowed from the settings
    struct hf_key_command *command;    // FRAME_COMMAND: likewise
    const struct hf_setting *setting;  // FRAME_LIST: the row
    void *target;                      // FRAME_LIST: the struct the row belongs to
    bool pending;
    size_t count;
    struct key *keys; // in the order of the file
};

struct reader {
    const char *file; // borrowed from the caller
    struct hf_settings *settings;
    unsigned documents;
    size_t depth;
    struct frame frames[DEPTH_MOST];
};

static bool check_bytes(const char *file, const char *text, size_t length, struct hf_error *err);
static bool read_events(struct reader *reader, yaml_parser_t *parser, struct hf_error *err);
static bool fail_yaml(const struct reader *reader, const yaml_parser_t *parser, struct hf_error *err);
static bool take_event(struct reader *reader, const yaml_event_t *event, struct hf_error *err);
static bool begin_document(struct reader *reader, const yaml_event_t *event, unsigned line, struct hf_error *err);
static bool check_plain(const struct reader *reader, const yaml_event_t *event, unsigned line, struct hf_error *err);
static bool begin_mapping(struct reader *reader, unsigned line, struct hf_error *err);
static bool begin_source(struct reader *reader, const struct key *key, struct hf_error *err);
static bool begin_command(struct reader *reader, const struct key *key, struct hf_error *err);
static bool begin_list(struct reader *reader, unsigned line, struct hf_error *err);
static bool end_level(struct reader *reader, struct hf_error *err);
static bool take_scalar(struct reader *reader, const yaml_event_t *event, unsigned line, struct hf_error *err);
static bool add_key(struct reader *reader, struct frame *frame, const char *text, unsigned line, struct hf_error *err);
static bool set_value(struct reader *reader, const struct hf_setting *setting, void *target, const yaml_event_t *event,
                      unsigned line, struct hf_error *err);
static const struct hf_setting *setting_of_key(const struct reader *reader, const struct frame *frame,
                                               void **ret_target);
static bool is_map(const char *name);
static const char *entry_words(const struct hf_setting *setting);
static bool is_group(enum hf_setting_of of, const char *name);
static struct frame *push(struct reader *reader, enum frame_kind kind);
static void pop(struct reader *reader);
static struct frame *top_frame(struct reader *reader);
static bool refuse(const struct reader *reader, unsigned line, struct hf_error *err, const char *format, ...)
    HF_PRINTF(4, 5);

bool
hf_settings_read_yaml(const char *file, const void *text, size_t length, struct hf_settings *settings,
                      struct hf_error *err)
{
    struct reader reader = {.file = file, .settings = settings};
    yaml_parser_t parser;

    if (!check_bytes(file, text, length, err))
        return false;
    if (!yaml_parser_initialize(&parser))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for reading \"%s\"", file);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, text, length);

    bool done = read_events(&reader, &parser, err);
    if (done && reader.documents == 0)
        done = hf_fail(err, HF_ERR_USAGE, "%s: there are no settings in it", file);

    while (reader.depth > 0)
        pop(&reader);
    yaml_parser_delete(&parser);
    return done;
}

/* YAML allows tabs in some places and not in others; nobody can see which. */
static bool
check_bytes(const char *file, const char *text, size_t length, struct hf_error *err)
{
    unsigned line = 1;
    if (length > HF_SETTINGS_FILE_MOST)
        return hf_fail(err, HF_ERR_USAGE, "%s: longer than %zu bytes", file, HF_SETTINGS_FILE_MOST);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\t')
            return hf_fail(err, HF_ERR_USAGE, "%s:%u: there is a tab; indent and separate with spaces", file, line);
        if (text[i] == '\0')
            return hf_fail(err, HF_ERR_USAGE, "%s:%u: there is a zero byte", file, line);
        if (text[i] == '\n')
            line++;
    }
    return true;
}

static bool
read_events(struct reader *reader, yaml_parser_t *parser, struct hf_error *err)
{
    bool more = true;
    while (more) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return fail_yaml(reader, parser, err);
        more = event.type != YAML_STREAM_END_EVENT;
        bool taken = take_event(reader, &event, err);
        yaml_event_delete(&event);
        if (!taken)
            return false;
    }
    return true;
}

static bool
fail_yaml(const struct reader *reader, const yaml_parser_t *parser, struct hf_error *err)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for reading \"%s\"", reader->file);
    if (parser->error == YAML_READER_ERROR) // it knows an offset and no line
        return hf_fail(err, HF_ERR_USAGE, "%s: byte %zu: %s", reader->file, parser->problem_offset, parser->problem);
    return refuse(reader, (unsigned)parser->problem_mark.line + 1, err, "this is not YAML: %s%s%s",
                  parser->context == NULL ? "" : parser->context, parser->context == NULL ? "" : ", ",
                  parser->problem == NULL ? "it cannot be read" : parser->problem);
}

static bool
take_event(struct reader *reader, const yaml_event_t *event, struct hf_error *err)
{
    unsigned line = (unsigned)event->start_mark.line + 1;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return begin_document(reader, event, line, err);
    case YAML_ALIAS_EVENT:
        return refuse(reader, line, err, "aliases (\"*name\") are not allowed; write the value out");
    case YAML_MAPPING_START_EVENT:
        return check_plain(reader, event, line, err) && begin_mapping(reader, line, err);
    case YAML_SEQUENCE_START_EVENT:
        return check_plain(reader, event, line, err) && begin_list(reader, line, err);
    case YAML_SCALAR_EVENT:
        return check_plain(reader, event, line, err) && take_scalar(reader, event, line, err);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        return end_level(reader, err);
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return true;
    }
    abort();
}

static bool
begin_document(struct reader *reader, const yaml_event_t *event, unsigned line, struct hf_error *err)
{
    if (event->data.document_start.version_directive != NULL ||
        event->data.document_start.tag_directives.start != event->data.document_start.tag_directives.end)
        return refuse(reader, line, err, "directives (\"%%...\") are not allowed");
    if (reader->documents++ > 0)
        return refuse(reader, line, err, "a second document begins; one file is one document");
    return true;
}

static bool
check_plain(const struct reader *reader, const yaml_event_t *event, unsigned line, struct hf_error *err)
{
    const yaml_char_t *anchor, *tag;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    }
    if (anchor != NULL)
        return refuse(reader, line, err, "anchors (\"&%s\") are not allowed; write the value out",
                      (const char *)anchor);
    if (tag != NULL)
        return refuse(reader, line, err, "tags (\"%s\") are not allowed", (const char *)tag);
    return true;
}

static bool
begin_mapping(struct reader *reader, unsigned line, struct hf_error *err)
{
    if (reader->depth == 0) {
        push(reader, FRAME_TOP);
        return true;
    }

    struct frame *frame = top_frame(reader);
    if (frame->kind == FRAME_LIST)
        return refuse(reader, line, err, "an entry of \"%s\" is a mapping; it must be %s", frame->setting->name,
                      entry_words(frame->setting));
    if (!frame->pending)
        return refuse(reader, line, err, "a key is a mapping; it must be a word");

    const struct key *key = &frame->keys[frame->count - 1];
    frame->pending = false;
    if (frame->kind == FRAME_SOURCES)
        return begin_source(reader, key, err);
    if (frame->kind == FRAME_COMMANDS)
        return begin_command(reader, key, err);
    if (frame->kind == FRAME_TOP && is_map(key->name)) {
        push(reader, strcmp(key->name, "sources") == 0 ? FRAME_SOURCES : FRAME_COMMANDS);
        return true;
    }
    if ((frame->kind == FRAME_TOP && is_group(HF_SETTING_OF_APPLIANCE, key->name)) ||
        (frame->kind == FRAME_SOURCE && is_group(HF_SETTING_OF_SOURCE, key->name))) {
        struct frame *group = push(reader, FRAME_GROUP);
        group->source = frame->source;
        snprintf(group->group, sizeof group->group, "%s", key->name);
        return true;
    }
    return refuse(reader, line, err, "\"%s\" cannot have settings below it", key->name);
}

static bool
begin_source(struct reader *reader, const struct key *key, struct hf_error *err)
{
    struct hf_settings *settings = reader->settings;
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = calloc(1, sizeof *source);
    struct hf_source_settings **longer =
        reallocarray(settings->sources, settings->source_count + 1, sizeof *settings->sources);
    if (longer != NULL)
        settings->sources = longer;
    if (source == NULL || longer == NULL || (source->name = strdup(key->name)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for source \"%s\"", key->name);
    source->line = key->line;
    if (!hf_setting_set_defaults(HF_SETTING_OF_SOURCE, source, err))
        return false;

    push(reader, FRAME_SOURCE)->source = source;
    settings->sources[settings->source_count++] = HF_TAKE(source);
    return true;
}

static bool
begin_command(struct reader *reader, const struct key *key, struct hf_error *err)
{
    struct hf_settings *settings = reader->settings;
    _cleanup_(hf_key_command_freep) struct hf_key_command *command = calloc(1, sizeof *command);
    struct hf_key_command **longer =
        reallocarray(settings->key_commands, settings->key_command_count + 1, sizeof *settings->key_commands);
    if (longer != NULL)
        settings->key_commands = longer;
    if (command == NULL || longer == NULL || (command->name = strdup(key->name)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for key command \"%s\"", key->name);
    command->line = key->line;
    if (!hf_setting_set_defaults(HF_SETTING_OF_KEY_COMMAND, command, err))
        return false;

    push(reader, FRAME_COMMAND)->command = command;
    settings->key_commands[settings->key_command_count++] = HF_TAKE(command);
    return true;
}

static bool
begin_list(struct reader *reader, unsigned line, struct hf_error *err)
{
    if (reader->depth == 0)
        return refuse(reader, line, err, "the settings are a list; they must be keys with values");

    struct frame *frame = top_frame(reader);
    if (frame->kind == FRAME_LIST)
        return refuse(reader, line, err, "an entry of \"%s\" is a list; it must be %s", frame->setting->name,
                      entry_words(frame->setting));
    if (!frame->pending)
        return refuse(reader, line, err, "a key is a list; it must be a word");

    void *target;
    const struct hf_setting *setting = setting_of_key(reader, frame, &target);
    if (setting == NULL || !hf_setting_is_list(setting->type))
        return refuse(reader, line, err, "\"%s\" is a list; it must be %s", frame->keys[frame->count - 1].name,
                      setting == NULL ? "keys with values" : hf_setting_type_words(setting->type));

    frame->pending = false;
    struct frame *list = push(reader, FRAME_LIST);
    list->setting = setting;
    list->target = target;
    return true;
}

static bool
end_level(struct reader *reader, struct hf_error *err)
{
    const struct frame *frame = top_frame(reader);
    if (frame->kind == FRAME_SOURCE && !hf_setting_check_required(HF_SETTING_OF_SOURCE, frame->source, err)) {
        hf_fail_within(err, "source \"%s\"", frame->source->name);
        return hf_fail_within(err, "%s:%u", reader->file, frame->source->line);
    }
    if (frame->kind == FRAME_COMMAND && !hf_setting_check_required(HF_SETTING_OF_KEY_COMMAND, frame->command, err)) {
        hf_fail_within(err, "key command \"%s\"", frame->command->name);
        return hf_fail_within(err, "%s:%u", reader->file, frame->command->line);
    }
    pop(reader);
    return true;
}

static bool
take_scalar(struct reader *reader, const yaml_event_t *event, unsigned line, struct hf_error *err)
{
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length)
        return refuse(reader, line, err, "there is a zero byte in a value");
    if (reader->depth == 0)
        return refuse(reader, line, err, "the settings are a single value; they must be keys with values");

    struct frame *frame = top_frame(reader);
    if (frame->kind == FRAME_LIST)
        return set_value(reader, frame->setting, frame->target, event, line, err);
    if (!frame->pending)
        return add_key(reader, frame, text, line, err);

    void *target;
    const struct hf_setting *setting = setting_of_key(reader, frame, &target);
    if (setting == NULL)
        return refuse(reader, line, err, "\"%s\" must have settings below it", frame->keys[frame->count - 1].name);
    if (hf_setting_is_list(setting->type))
        return refuse(reader, line, err, "\"%s\" is a single value; it must be %s", setting->name,
                      hf_setting_type_words(setting->type));
    frame->pending = false;
    return set_value(reader, setting, target, event, line, err);
}

static bool
add_key(struct reader *reader, struct frame *frame, const char *text, unsigned line, struct hf_error *err)
{
    for (size_t i = 0; i < frame->count; i++)
        if (strcmp(frame->keys[i].name, text) == 0)
            return refuse(reader, line, err, "\"%s\" stands here a second time; the first is in line %u", text,
                          frame->keys[i].line);
    if (frame->count == KEYS_MOST)
        return refuse(reader, line, err, "more than %d keys on one level", KEYS_MOST);

    struct key *longer = reallocarray(frame->keys, frame->count + 1, sizeof *longer);
    if (longer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for reading \"%s\"", reader->file);
    frame->keys = longer;
    if ((longer[frame->count].name = strdup(text)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for reading \"%s\"", reader->file);
    longer[frame->count++].line = line;
    frame->pending = true;

    if (frame->kind == FRAME_SOURCES || frame->kind == FRAME_COMMANDS)
        return hf_source_name_check(text, err) || hf_fail_within(err, "%s:%u", reader->file, line);
    void *target;
    bool group = (frame->kind == FRAME_TOP && (is_group(HF_SETTING_OF_APPLIANCE, text) || is_map(text))) ||
                 (frame->kind == FRAME_SOURCE && is_group(HF_SETTING_OF_SOURCE, text));
    if (!group && setting_of_key(reader, frame, &target) == NULL) {
        refuse(reader, line, err, "there is no setting \"%s%s%s\"", frame->group, frame->group[0] == '\0' ? "" : ".",
               text);
        return hf_fail_hint(err, "\"holdfast settings\" prints all of them.");
    }
    return true;
}

static bool
set_value(struct reader *reader, const struct hf_setting *setting, void *target, const yaml_event_t *event,
          unsigned line, struct hf_error *err)
{
    const char *text = (const char *)event->data.scalar.value;
    bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    bool number = setting->type == HF_SETTING_BOOLEAN || setting->type == HF_SETTING_COUNT ||
                  setting->type == HF_SETTING_SIZE || setting->type == HF_SETTING_DURATION;

    if (!quoted && (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0))
        return refuse(reader, line, err, "\"%s\" has no value", setting->name);
    if (quoted && number)
        return refuse(reader, line, err, "\"%s\" is text in quotes; it must be %s", setting->name,
                      hf_setting_type_words(setting->type));
    return hf_setting_set(setting, target, text, err) || hf_fail_within(err, "%s:%u", reader->file, line);
}

/* The row that the last key of a mapping names, and the struct it is to be set in. */
static const struct hf_setting *
setting_of_key(const struct reader *reader, const struct frame *frame, void **ret_target)
{
    const char *name = frame->keys[frame->count - 1].name;
    char whole[192];
    switch (frame->kind) {
    case FRAME_SOURCE:
        *ret_target = frame->source;
        return strchr(name, '.') == NULL ? hf_setting_find(HF_SETTING_OF_SOURCE, name) : NULL;
    case FRAME_COMMAND:
        *ret_target = frame->command;
        return hf_setting_find(HF_SETTING_OF_KEY_COMMAND, name);
    case FRAME_GROUP:
        *ret_target = frame->source != NULL ? (void *)frame->source : (void *)reader->settings;
        if (snprintf(whole, sizeof whole, "%s.%s", frame->group, name) >= (int)sizeof whole)
            return NULL;
        return hf_setting_find(frame->source != NULL ? HF_SETTING_OF_SOURCE : HF_SETTING_OF_APPLIANCE, whole);
    case FRAME_TOP:
        *ret_target = reader->settings;
        return strchr(name, '.') == NULL ? hf_setting_find(HF_SETTING_OF_APPLIANCE, name) : NULL;
    case FRAME_SOURCES:
    case FRAME_COMMANDS:
    case FRAME_LIST:
        break;
    }
    return NULL;
}

/* Whether its keys are names that the owner gives. */
static bool
is_map(const char *name)
{
    return strcmp(name, "sources") == 0 || strcmp(name, "key_commands") == 0;
}

static const char *
entry_words(const struct hf_setting *setting)
{
    return setting->type == HF_SETTING_RUN ? "text" : "an absolute path";
}

/* Whether some setting is called "<name>.<more>". */
static bool
is_group(enum hf_setting_of of, const char *name)
{
    size_t count, length = strlen(name);
    const struct hf_setting *table = hf_settings_table(&count);
    for (size_t i = 0; i < count; i++)
        if (table[i].of == of && strncmp(table[i].name, name, length) == 0 && table[i].name[length] == '.')
            return true;
    return false;
}

/* There is always room: a frame is only opened below one that allows it, and those are DEPTH_MOST deep. */
static struct frame *
push(struct reader *reader, enum frame_kind kind)
{
    assert(reader->depth < DEPTH_MOST);
    struct frame *frame = &reader->frames[reader->depth++];
    *frame = (struct frame){.kind = kind};
    return frame;
}

static void
pop(struct reader *reader)
{
    struct frame *frame = top_frame(reader);
    for (size_t i = 0; i < frame->count; i++)
        free(frame->keys[i].name);
    free(frame->keys);
    reader->depth--;
}

static struct frame *
top_frame(struct reader *reader)
{
    assert(reader->depth > 0);
    return &reader->frames[reader->depth - 1];
}

static bool
refuse(const struct reader *reader, unsigned line, struct hf_error *err, const char *format, ...)
{
    char what[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return hf_fail(err, HF_ERR_USAGE, "%s:%u: %s", reader->file, line, what);
}
