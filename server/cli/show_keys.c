#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/cli/show.h"
#include "server/cli/table.h"

#define GREEN  "32"
#define YELLOW "33"
#define RED    "31"

static const char *text_of(const json_t *object, const char *member);
static const char *kind_words(const json_t *slot);
static bool is_true(const json_t *object, const char *member);
static bool add_slot_row(struct hf_table *table, const json_t *slot, struct hf_error *err);
static bool show_kit_keys(const json_t *slots, const json_t *kit, struct hf_buf *out, struct hf_error *err);
static bool show_kit_heads(const json_t *heads, struct hf_buf *out, struct hf_error *err);

bool
hf_show_keys(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"NAME", "KIND", "MADE", "LAST DRILLED", "OPENS WITHOUT A PERSON", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *slot;
    size_t at;
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(json_object_get(result, "slots"), at, slot)
    {
        if (!add_slot_row(&table, slot, err))
            return false;
    }
    if (!hf_table_print(&table, cli->colour, out, err) ||
        !hf_buf_printf(out, err, "\nRoot key %" PRId64 " is in force.\n",
                       (int64_t)json_integer_value(json_object_get(result, "root_generation"))))
        return false;
    return !is_true(result, "unfinished") ||
           hf_buf_add_text(out,
                           "A rotation was cut off.  Everything opens as listed; the next \"holdfast key rotate\" "
                           "finishes it.\n",
                           err);
}

bool
hf_show_key_added(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const char *recipient = json_string_value(json_object_get(result, "recipient"));
    (void)cli;
    if (!hf_buf_add_text(out, "Key slot \"", err) || !hf_add_plain(out, text_of(result, "name"), err) ||
        !hf_buf_printf(out, err, "\" (%s) opens the repository.\n", kind_words(result)))
        return false;
    if (recipient != NULL &&
        !hf_buf_printf(out, err, "Its public text is\n\n  %s\n\nThe secret must not stay on this machine.\n",
                       recipient))
        return false;
    return hf_buf_add_text(out, "Next: \"holdfast key recovery-kit\", since the kits issued so far do not name it.\n",
                           err);
}

bool
hf_show_key_removed(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const json_t *kit;
    size_t at;
    (void)cli;
    if (!hf_buf_add_text(out, "Key slot \"", err) || !hf_add_plain(out, text_of(result, "name"), err) ||
        !hf_buf_add_text(out, "\" is removed.  Copies of the repository made before still have it.\n", err))
        return false;
    json_array_foreach(json_object_get(result, "kits"), at, kit)
    {
        if (!hf_buf_printf(out, err, "The recovery kit of %s names it: %s.\n", text_of(kit, "issued_at"),
                           is_true(kit, "useless") ? "that kit opens nothing any more"
                                                   : "its other slots still open the repository"))
            return false;
    }
    return true;
}

bool
hf_show_drills(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const json_t *drill;
    size_t at;
    (void)cli;
    if (json_array_size(json_object_get(result, "drills")) == 0)
        return hf_buf_add_text(out, "No slot opens without a person.\n", err);
    json_array_foreach(json_object_get(result, "drills"), at, drill)
    {
        const bool passed = strcmp(text_of(drill, "result"), "passed") == 0;
        if (!hf_buf_add_text(out, "Key slot \"", err) || !hf_add_plain(out, text_of(drill, "name"), err))
            return false;
        if (passed &&
            !hf_buf_printf(out, err,
                           "\" opens: %" PRId64 " vaults, and a part of the newest backup of %" PRId64 " of them.\n",
                           (int64_t)json_integer_value(json_object_get(drill, "vaults")),
                           (int64_t)json_integer_value(json_object_get(drill, "backups"))))
            return false;
        if (!passed && (!hf_buf_add_text(out, "\" does NOT open: ", err) ||
                        !hf_add_plain(out, text_of(drill, "reason"), err) || !hf_buf_add_text(out, "\n", err)))
            return false;
    }
    return true;
}

bool
hf_show_rotated(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    if (!is_true(result, "root"))
        return hf_buf_printf(out, err,
                             "New packs are sealed under new data keys, in %zu vaults.  Older backups open as "
                             "before.\n",
                             json_array_size(json_object_get(result, "vaults")));
    return hf_buf_printf(
        out, err,
        "Root key %" PRId64 " is in force, behind %zu slots.  The old slots open nothing any more, "
        "but copies of the\nrepository made before still open with them.\n"
        "Next: \"holdfast key recovery-kit\", and a drill of each slot: \"holdfast key drill NAME\".\n",
        (int64_t)json_integer_value(json_object_get(result, "root_generation")),
        json_array_size(json_object_get(result, "slots")));
}

bool
hf_show_recovery_kit(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const char *output = json_string_value(json_object_get(result, "output"));
    (void)cli;
    if (output == NULL)
        return hf_show_kit_text(result, out, err);
    return hf_buf_add_text(out, "The recovery kit is in \"", err) && hf_add_plain(out, output, err) &&
           hf_buf_add_text(out, "\".  Print it, and keep it outside of this machine.\n", err);
}

bool
hf_show_kit_text(const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    if (!hf_buf_printf(out, err, "Holdfast recovery kit %s, issued %s\n\n", text_of(result, "kit"),
                       text_of(result, "issued_at")) ||
        !hf_buf_add_text(out, "repository  ", err) || !hf_add_plain(out, text_of(result, "place"), err) ||
        !hf_buf_printf(out, err, "\nid          %s\nroot key    %" PRId64 "\n\n", text_of(result, "repository"),
                       (int64_t)json_integer_value(json_object_get(result, "root_generation"))))
        return false;
    return show_kit_keys(json_object_get(result, "slots"), result, out, err) &&
           hf_buf_printf(out, err,
                         "2. The public key, with which anyone can check the evidence:\n\n     %s\n\n"
                         "3. The newest entry of each log.  A repository whose logs end before these is an older copy:"
                         "\n\n",
                         text_of(result, "public_key")) &&
           show_kit_heads(json_object_get(result, "heads"), out, err) &&
           hf_buf_printf(out, err,
                         "\n4. To restore on an empty machine: install Holdfast, bring the repository (or a copy) and "
                         "one of the keys, and\n   write a file holdfast.yaml with mode 0600:\n\n"
                         "     repository: /where/the/repository/is\n"
                         "     state: /an/empty/folder\n"
                         "     unlock:\n"
                         "       key_file: /the/key/file/or/recipient/secret    (or passphrase_file: a file that holds "
                         "the passphrase)\n\n"
                         "   holdfast --settings holdfast.yaml vault list     compare with 3\n"
                         "   holdfast --settings holdfast.yaml backups\n"
                         "   holdfast --settings holdfast.yaml restore SOURCE --to /an/empty/folder\n\n"
                         "   Such a machine restores and records nothing.\n\n"
                         "5. To go on backing up there, when the old machine is lost and the repository is a copy: the "
                         "appliance's signing\n   key is sealed below, and opens with one of the keys.\n\n"
                         "   holdfast --settings holdfast.yaml repo promote --kit FILE     this text, as a file\n\n"
                         "%s",
                         text_of(result, "signing_key"));
}

bool
hf_show_vaults(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"VAULT", "ENGINE", "NAME", ">PACKS", ">LOG", "STATE", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *vault;
    size_t at;
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(json_object_get(result, "vaults"), at, vault)
    {
        char packs[32], sequence[32], state[64] = "open";
        const bool shredded = !json_is_null(json_object_get(vault, "shredded_at"));
        snprintf(packs, sizeof packs, "%" PRId64, (int64_t)json_integer_value(json_object_get(vault, "packs")));
        snprintf(sequence, sizeof sequence, "%" PRId64,
                 (int64_t)json_integer_value(json_object_get(vault, "sequence")));
        if (shredded)
            snprintf(state, sizeof state, "shredded %.40s", text_of(vault, "shredded_at"));
        if (!hf_table_add(&table, text_of(vault, "vault"), NULL, err) ||
            !hf_table_add(&table, text_of(vault, "engine"), NULL, err) ||
            !hf_table_add(&table, text_of(vault, "name"), NULL, err) || !hf_table_add(&table, packs, NULL, err) ||
            !hf_table_add(&table, sequence, NULL, err) || !hf_table_add(&table, state, shredded ? YELLOW : GREEN, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

bool
hf_show_shredded(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    if (is_true(result, "waits"))
        return hf_buf_printf(out, err,
                             "Nothing is destroyed yet.  Another person has to give the same command within 7 "
                             "days: one of ") &&
               hf_add_plain(out, text_of(result, "confirmers"), err) && hf_buf_add_text(out, ".\n", err);
    return hf_buf_printf(out, err, "Vault %s (\"", text_of(result, "vault")) &&
           hf_add_plain(out, text_of(result, "name"), err) &&
           hf_buf_printf(out, err,
                         "\") is shredded: its keys are destroyed, and its %" PRId64
                         " backups are noise.\n\ncertificate  ",
                         (int64_t)json_integer_value(json_object_get(result, "backups"))) &&
           hf_add_plain(out, text_of(result, "evidence_path"), err) &&
           hf_buf_add_text(out,
                           "\n\nIt lists every wrap and kit there ever was, and what is beyond our reach: above all "
                           "older copies of this repository.\n\"holdfast repo gc\" may now remove the packs.\n",
                           err);
}

static const char *
text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "-" : text;
}

static const char *
kind_words(const json_t *slot)
{
    const char *kind = text_of(slot, "kind");
    return strcmp(kind, "key_file") == 0 ? "key file" : kind;
}

static bool
is_true(const json_t *object, const char *member)
{
    return json_is_true(json_object_get(object, member));
}

static bool
add_slot_row(struct hf_table *table, const json_t *slot, struct hf_error *err)
{
    const char *drilled = json_string_value(json_object_get(slot, "drilled_at"));
    const bool failed = strcmp(text_of(json_object_get(slot, "drill"), "result"), "failed") == 0;
    return hf_table_add(table, text_of(slot, "name"), NULL, err) && hf_table_add(table, kind_words(slot), NULL, err) &&
           hf_table_add(table, text_of(slot, "created_at"), NULL, err) &&
           hf_table_add(table,
                        failed            ? "the last drill FAILED"
                        : drilled == NULL ? "never"
                                          : drilled,
                        failed            ? RED
                        : drilled == NULL ? YELLOW
                                          : GREEN,
                        err) &&
           hf_table_add(table,
                        is_true(slot, "own")          ? "yes, used now"
                        : is_true(slot, "unattended") ? "yes"
                                                      : "no, its secret is kept elsewhere",
                        NULL, err);
}

static bool
show_kit_keys(const json_t *slots, const json_t *kit, struct hf_buf *out, struct hf_error *err)
{
    const json_t *slot;
    size_t at;
    if (!hf_buf_add_text(out,
                         "1. A key.  Whoever has one of these and a copy of the repository can read every backup; "
                         "without any, nobody can.\n   Keep at least one outside of this machine, and not beside the "
                         "repository:\n\n",
                         err))
        return false;
    json_array_foreach(slots, at, slot)
    {
        const char *kind = text_of(slot, "kind");
        const char *keep = strcmp(kind, "passphrase") == 0  ? "the passphrase, written down"
                           : strcmp(kind, "key_file") == 0  ? "a copy of the key file"
                           : strcmp(kind, "recipient") == 0 ? "the file with the recipient's secret"
                                                            : "whatever the key command asks (HSM, key service)";
        if (!hf_buf_add_text(out, "     slot \"", err) || !hf_add_plain(out, text_of(slot, "name"), err) ||
            !hf_buf_printf(out, err, "\": %s", keep))
            return false;
        if (is_true(slot, "own") && json_is_string(json_object_get(kit, "key_file")) &&
            (!hf_buf_add_text(out, ", here ", err) || !hf_add_plain(out, text_of(kit, "key_file"), err)))
            return false;
        if (!hf_buf_add_text(out, "\n", err))
            return false;
    }
    return hf_buf_add_text(out, "\n", err);
}

static bool
show_kit_heads(const json_t *heads, struct hf_buf *out, struct hf_error *err)
{
    const json_t *head;
    size_t at;
    json_array_foreach(heads, at, head)
    {
        if (!hf_buf_printf(out, err, "     vault %s (", text_of(head, "vault")) ||
            !hf_add_plain(out, is_true(head, "shredded") ? "shredded" : text_of(head, "name"), err) ||
            !hf_buf_printf(out, err, "): entry %" PRId64 "\n       %s\n",
                           (int64_t)json_integer_value(json_object_get(head, "sequence")), text_of(head, "hash")))
            return false;
    }
    return true;
}
