#include "server/job/kinds.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/job/damage.h"
#include "server/job/existing_copy.h"
#include "server/job/restore_choice.h"
#include "server/job/restore_work.h"
#include "server/job/run_restore_send.h"
#include "server/storage/ssh_place.h"

/* Beside a restore of a damaged backup: every lost page, in a file of its own. */
struct lost_list {
    char path[4200];
    FILE *file;
    struct hf_loss *loss; // the bounded form, for the answer
};

static bool add_owner(const json_t *arguments, json_t *request, struct hf_error *err);
static bool add_moves(const json_t *arguments, json_t *request, struct hf_error *err);
static bool read_moves(const json_t *request, struct hf_tablespace_move **ret, size_t *ret_count, struct hf_error *err);
static bool add_beside(const struct hf_restore_work *work, const char *target, json_t *result, struct hf_error *err);
static bool add_delta(json_t *result, const struct hf_restore_outcome *outcome, struct hf_error *err);
static bool refuse_damage(bool allow_damage, struct hf_error *err);
static bool lost_list_begin(struct lost_list *list, const char *target, struct hf_error *err);
static bool lost_list_take(void *context, const struct hf_lost *lost, struct hf_error *err);
static bool lost_list_end(struct lost_list *list, json_t *result, struct hf_error *err);
static void lost_list_done(struct lost_list *list);

bool
hf_restore_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    const char *target = json_string_value(json_object_get(hf_job_arguments(job), "to"));
    const bool allow_damage = json_is_true(json_object_get(hf_job_arguments(job), "allow_damage"));
    const bool delta = json_is_true(json_object_get(hf_job_arguments(job), "delta"));
    struct hf_restore_target moment;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    const bool elsewhere = target != NULL && hf_restore_is_elsewhere(target);
    struct hf_ssh_place place;
    if (target == NULL || (target[0] != '/' && !elsewhere))
        return hf_fail(err, HF_ERR_USAGE,
                       "a restore needs the absolute path of a folder to restore to, or ssh://[user@]host[:port]/path");
    if (elsewhere && !hf_ssh_place_parse(target, &place, err))
        return false;
    const bool moves = json_object_get(hf_job_arguments(job), "tablespaces") != NULL;
    if (moves && delta)
        return hf_fail(err, HF_ERR_USAGE,
                       "tablespaces stay where the copy has them: --delta goes without --tablespace");
    if (elsewhere && (allow_damage || delta || moves || json_object_get(hf_job_arguments(job), "owner") != NULL)) {
        hf_fail(err, HF_ERR_USAGE,
                "a restore to another host goes without --allow-damage, --delta, --owner and --tablespace");
        return hf_fail_hint(err, "The copy belongs to whom the place names: ssh://postgres@host/path.");
    }
    if (!hf_restore_choose(daemon, job, &moment, &request, err))
        return false;
    if (allow_damage && moment.wanted)
        return hf_fail(err, HF_ERR_USAGE, "log cannot be replayed over lost pages: --allow-damage and a moment");
    if (allow_damage && delta)
        return hf_fail(err, HF_ERR_USAGE, "what is left of a damaged backup goes into an empty folder: no --delta");
    if (!hf_json_set(request, "allow_damage", json_boolean(allow_damage), err) ||
        !hf_json_set(request, "delta", json_boolean(delta), err) ||
        !hf_json_set(request, "to", json_string(target), err) || !add_owner(hf_job_arguments(job), request, err) ||
        !add_moves(hf_job_arguments(job), request, err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

/* "owner": {"uid", "gid"}, or null. */
static bool
add_owner(const json_t *arguments, json_t *request, struct hf_error *err)
{
    const char *name = json_string_value(json_object_get(arguments, "owner"));
    struct passwd user, *found = NULL;
    char words[4096];
    if (name == NULL)
        return hf_json_set(request, "owner", json_null(), err);
    if (getpwnam_r(name, &user, words, sizeof words, &found) != 0 || found == NULL)
        return hf_fail(err, HF_ERR_USAGE, "there is no user \"%.64s\" on this host", name);
    if (geteuid() != 0 && geteuid() != user.pw_uid) {
        hf_fail(err, HF_ERR_DENIED, "only root can give a restored folder to \"%.64s\"", name);
        return hf_fail_hint(err, "Run holdfastd as root, or restore without --owner and change the owner afterwards.");
    }
    return hf_json_set(request, "owner",
                       json_pack("{s:I, s:I}", "uid", (json_int_t)user.pw_uid, "gid", (json_int_t)user.pw_gid), err);
}

/* "tablespaces": [[location at the source, folder], ...] of texts "OLD=NEW". */
static bool
add_moves(const json_t *arguments, json_t *request, struct hf_error *err)
{
    json_t *moves = json_array();
    const json_t *given = json_object_get(arguments, "tablespaces");
    if (!hf_json_set(request, "tablespaces", moves, err))
        return false;
    if (given != NULL && !json_is_array(given))
        return hf_fail(err, HF_ERR_USAGE, "argument \"tablespaces\" is of the wrong type");
    if (json_array_size(given) > HF_TABLESPACE_MOVES_MOST)
        return hf_fail(err, HF_ERR_USAGE, "at most %d tablespaces can be moved at once", HF_TABLESPACE_MOVES_MOST);
    for (size_t i = 0; i < json_array_size(given); i++) {
        const char *text = json_string_value(json_array_get(given, i));
        const char *sign = text == NULL ? NULL : strchr(text, '=');
        if (sign == NULL || text[0] != '/' || sign[1] != '/' || strchr(sign + 1, '=') != NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"%.200s\" is not OLD=NEW, two absolute paths",
                           text == NULL ? "" : text);
        if (json_array_append_new(moves, json_pack("[s%, s]", text, (size_t)(sign - text), sign + 1)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    }
    return true;
}

/* Its texts are borrowed from the request. */
static bool
read_moves(const json_t *request, struct hf_tablespace_move **ret, size_t *ret_count, struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(request, "tablespaces", "the request", &rows, err))
        return false;
    *ret_count = json_array_size(rows);
    *ret = calloc(*ret_count + 1, sizeof **ret);
    if (*ret == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for tablespaces");
    for (size_t i = 0; i < *ret_count; i++) {
        const json_t *row = json_array_get(rows, i);
        (*ret)[i] = (struct hf_tablespace_move){json_string_value(json_array_get(row, 0)),
                                                json_string_value(json_array_get(row, 1))};
        if ((*ret)[i].from == NULL || (*ret)[i].to == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "the request's tablespaces cannot be read");
    }
    return true;
}

bool
hf_restore_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_restore_work_done) struct hf_restore_work work = {0};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    _cleanup_(lost_list_done) struct lost_list list = {0};
    bool allow_damage, delta;
    char identity[24] = "";
    const struct hf_restore_existing existing = {.identity = identity, .examine = hf_existing_copy_examine};
    struct hf_restore_outcome outcome;
    const char *target;
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_string(request, "to", "the request", &target, err))
        return false;
    if (hf_restore_is_elsewhere(target))
        return hf_restore_send_run(worker, request, target, ret_result, err);
    _cleanup_(hf_freep) struct hf_tablespace_move *moves = NULL;
    size_t move_count;
    if (!hf_json_boolean(request, "allow_damage", "the request", &allow_damage, err) ||
        !hf_json_boolean(request, "delta", "the request", &delta, err) ||
        !read_moves(request, &moves, &move_count, err) || (allow_damage && !lost_list_begin(&list, target, err)))
        return false;

    hf_worker_progress(worker, "plan", 0, 0);
    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    const json_t *owner = json_object_get(request, "owner");
    struct hf_restore_options options = {.workers = (unsigned)hf_worker_settings(worker)->workers,
                                         .sync = true,
                                         .owner = json_is_object(owner),
                                         .uid = (uid_t)json_integer_value(json_object_get(owner, "uid")),
                                         .gid = (gid_t)json_integer_value(json_object_get(owner, "gid")),
                                         .lost = allow_damage ? lost_list_take : NULL,
                                         .lost_context = &list,
                                         .moves = moves,
                                         .move_count = move_count,
                                         .existing = delta ? &existing : NULL,
                                         .cancel = hf_worker_cancel(worker),
                                         .done = &relay.done,
                                         .total = &relay.total};
    if (!hf_restore_work_begin(worker, request, &options, &relay, &work, err))
        return refuse_damage(allow_damage, err);
    if (work.engine->complete != NULL && (allow_damage || delta || move_count > 0))
        return hf_fail(err, HF_ERR_USAGE, "backups of %s are restored whole, into an empty folder: no %s",
                       work.engine->product,
                       allow_damage ? "--allow-damage"
                       : delta      ? "--delta"
                                    : "--tablespace");
    atomic_store(&relay.phase, "write");
    snprintf(identity, sizeof identity, "%" PRIu64, work.facts.system_identifier);
    if (!hf_restore_work_write(worker, &work, &options, &relay, target, &outcome, err))
        return refuse_damage(allow_damage || work.engine->complete != NULL, err);
    if (!options.owner && geteuid() == 0)
        hf_worker_note(worker, HF_LOG_INFO,
                       "the folder belongs to root; %s wants its own user there (next time: --owner %s)",
                       work.engine->product, work.engine->owner);
    if (allow_damage && !lost_list_end(&list, result, err))
        return false;
    if (hf_loss_is_any(list.loss)) {
        hf_worker_note(worker, HF_LOG_WARNING, "parts of this backup are lost: \"%s\" lists every page", list.path);
        hf_worker_bad_news(worker);
    }
    if (!hf_restore_work_describe(&work, request, result, err) || (delta && !add_delta(result, &outcome, err)) ||
        !hf_json_set(result, "backup", hf_json_id_text(&work.backup), err) ||
        !hf_json_set(result, "state", json_string(work.state), err) ||
        !hf_json_set(result, "to", json_string(target), err) ||
        !hf_json_set(result, "files", json_integer((json_int_t)work.size.files), err) ||
        !hf_json_set(result, "bytes", json_integer((json_int_t)outcome.bytes), err) ||
        !hf_json_set(result, "bytes_opened", json_integer((json_int_t)outcome.bytes_opened), err) ||
        !hf_json_set(result, "slot", json_string(work.opened.slot.name), err) ||
        !hf_json_set(result, "server_version", json_string(work.shared.server_version), err) ||
        !hf_json_set(result, "duration_ms", json_integer((json_int_t)outcome.duration_ms), err) ||
        !add_beside(&work, target, result, err))
        return false;
    *ret_result = HF_TAKE(result);
    return true;
}

/* Where its settings lie, when that is beside the folder. */
static bool
add_beside(const struct hf_restore_work *work, const char *target, json_t *result, struct hf_error *err)
{
    char beside[HF_RESTORE_BESIDE_BYTES];
    hf_restore_configuration(target, beside);
    return work->engine->complete == NULL || hf_json_set(result, "configuration", json_string(beside), err);
}

/* "delta": what the copy that was there saved. */
static bool
add_delta(json_t *result, const struct hf_restore_outcome *outcome, struct hf_error *err)
{
    return hf_json_set(result, "delta",
                       json_pack("{s:I, s:I, s:I}", "pages_kept", (json_int_t)outcome->pages_kept, "pages_written",
                                 (json_int_t)(outcome->pages - outcome->pages_kept), "removed",
                                 (json_int_t)outcome->removed),
                       err);
}

/* Says that there is another way, where there is one. */
static bool
refuse_damage(bool allow_damage, struct hf_error *err)
{
    if (!allow_damage && err->kind == HF_ERR_CORRUPT)
        hf_fail_hint(err, "Restore another backup; or, into another folder, what is left of this one: --allow-damage.");
    return false;
}

/* The folder's name with ".lost-pages" behind it; it must not exist yet, like the folder's content. */
static bool
lost_list_begin(struct lost_list *list, const char *target, struct hf_error *err)
{
    size_t length = strlen(target);
    while (length > 1 && target[length - 1] == '/')
        length--;
    const int printed = snprintf(list->path, sizeof list->path, "%.*s.lost-pages", (int)length, target);
    if (printed < 0 || (size_t)printed >= sizeof list->path)
        return hf_fail(err, HF_ERR_USAGE, "the path of the folder is too long");
    if (!hf_loss_new(&list->loss, err))
        return false;
    _cleanup_(hf_closep) int fd = open(list->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || (list->file = fdopen(fd, "w")) == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", list->path);
    (void)HF_TAKE_FD(fd);
    fprintf(list->file, "# file\tfirst page\tpages\tbytes per page; filled with a mark, see holdfast restore --help\n");
    return true;
}

static bool
lost_list_take(void *context, const struct hf_lost *lost, struct hf_error *err)
{
    struct lost_list *list = context;
    if (lost->kind == HF_LOST_PAGES)
        fprintf(list->file, "%s\t%" PRIu64 "\t%" PRIu64 "\t%u\n", lost->path, lost->first_page, lost->pages,
                1u << lost->page_log2);
    else
        fprintf(list->file, "# folder \"%s\": %" PRIu64 " files are missing, their names are lost\n", lost->path,
                lost->files);
    return hf_loss_take(list->loss, lost, err);
}

/* Durable like what it lies beside; gone when there is nothing to list. */
static bool
lost_list_end(struct lost_list *list, json_t *result, struct hf_error *err)
{
    json_t *lost;
    const bool any = hf_loss_is_any(list->loss);
    const bool written = fflush(list->file) == 0 && !ferror(list->file) && (!any || fdatasync(fileno(list->file)) == 0);
    if (!written)
        return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", list->path);
    if (!any)
        return unlink(list->path) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", list->path);
    return hf_loss_json(list->loss, 0, &lost, err) && hf_json_set(result, "lost", lost, err) &&
           hf_json_set(result, "lost_pages_file", json_string(list->path), err);
}

static void
lost_list_done(struct lost_list *list)
{
    if (list->file != NULL)
        (void)fclose(list->file);
    hf_loss_freep(&list->loss);
}
