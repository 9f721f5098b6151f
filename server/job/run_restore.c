#include "server/job/kinds.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/job/damage.h"
#include "server/job/open_repository.h"
#include "server/job/restore_target.h"
#include "server/restore/configure.h"
#include "server/restore/restore.h"
#include "server/source/postgres/facts.h"

static bool take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool read_facts(struct hf_vault *vault, const struct hf_id *backup, struct hf_recovery_facts *ret,
                       struct hf_error *err);

/* Beside a restore of a damaged backup: every lost page, in a file of its own. */
struct lost_list {
    char path[4200];
    FILE *file;
    struct hf_loss *loss; // the bounded form, for the answer
};

static bool add_owner(const json_t *arguments, json_t *request, struct hf_error *err);
static bool refuse_damage(bool allow_damage, struct hf_error *err);
static bool lost_list_begin(struct lost_list *list, const char *target, struct hf_error *err);
static bool lost_list_take(void *context, const struct hf_lost *lost, struct hf_error *err);
static bool lost_list_end(struct lost_list *list, json_t *result, struct hf_error *err);
static void lost_list_done(struct lost_list *list);

/* What goes into the folder besides the backup. */
struct rest {
    struct hf_restore_plan *plan;
    const struct hf_restore_needs *needs;
    struct hf_replay *replay; // NULL: no moment was asked for
    uint64_t log_bytes;       // written
};

static bool write_rest(void *context, const char *target, struct hf_error *err);

struct wanted {
    struct hf_id backup, vault;
    enum hf_backup_state state;
};

/* Looks for the newest backup from which a target can be reached. */
struct choice {
    const struct hf_restore_target *target;
    struct wanted wanted;
    bool found;
    int64_t later; // when the nearest proven backup ended that is too new; -1: none
};

static bool choose_backup(struct hf_daemon *daemon, struct hf_job *job, const struct hf_restore_target *target,
                          struct wanted *ret, struct hf_error *err);
static bool choose_start(struct hf_catalog *catalog, const char *source, const struct hf_restore_target *target,
                         struct wanted *ret, struct hf_error *err);
static bool consider(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool prove_log(struct hf_vault *vault, struct hf_replay_options *options, struct hf_archive **ret_archive,
                      struct hf_replay **ret, struct hf_error *err);
static bool add_recovery(json_t *result, const json_t *target, const struct hf_recovery_facts *backup,
                         const struct hf_replay *replay, uint64_t log_bytes, struct hf_error *err);

/* A named backup, or the newest proven one; when none is proven, the newest, and it is said. */
bool
hf_restore_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    const char *target = json_string_value(json_object_get(hf_job_arguments(job), "to"));
    struct hf_restore_target moment;
    struct wanted wanted;
    if (target == NULL || target[0] != '/')
        return hf_fail(err, HF_ERR_USAGE, "a restore needs the absolute path of a folder to restore to");
    if (!hf_restore_target_parse(hf_job_arguments(job), &moment, err) ||
        !choose_backup(daemon, job, &moment, &wanted, err))
        return false;
    const bool allow_damage = json_is_true(json_object_get(hf_job_arguments(job), "allow_damage"));
    if (allow_damage && moment.wanted)
        return hf_fail(err, HF_ERR_USAGE, "log cannot be replayed over lost pages: --allow-damage and a moment");
    _cleanup_(hf_json_freep) json_t *request = json_object(), *to_reach = NULL;
    if (!hf_restore_target_to_json(&moment, &to_reach, err))
        return false;
    if (request == NULL || !hf_json_set(request, "target", HF_TAKE(to_reach), err) ||
        !hf_json_set(request, "allow_damage", json_boolean(allow_damage), err) ||
        !hf_json_set(request, "backup", hf_json_id_text(&wanted.backup), err) ||
        !hf_json_set(request, "vault", hf_json_id_text(&wanted.vault), err) ||
        !hf_json_set(request, "to", json_string(target), err) || !add_owner(hf_job_arguments(job), request, err) ||
        !hf_json_set(request, "state", json_string(hf_backup_state_name(wanted.state)), err))
        return false;
    if (!hf_job_pin(daemon, job, &wanted.vault, &wanted.backup, err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

static bool
choose_backup(struct hf_daemon *daemon, struct hf_job *job, const struct hf_restore_target *target, struct wanted *ret,
              struct hf_error *err)
{
    static const enum hf_backup_state proven = HF_BACKUP_PROVEN;
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const char *named = json_string_value(json_object_get(hf_job_arguments(job), "backup"));
    bool found;
    if (named != NULL) {
        struct hf_id id;
        if (!hf_id_parse(named, &id, err) || !hf_catalog_backup(catalog, &id, &found, take_backup, ret, err))
            return false;
    } else if (target->wanted) {
        return choose_start(catalog, hf_job_subject(job), target, ret, err);
    } else if (!hf_catalog_newest_backup(catalog, hf_job_subject(job), &proven, &found, take_backup, ret, err) ||
               (!found &&
                !hf_catalog_newest_backup(catalog, hf_job_subject(job), NULL, &found, take_backup, ret, err))) {
        return false;
    }
    if (found)
        return true;
    hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no such backup", hf_job_subject(job));
    return hf_fail_hint(err, "List them: holdfast backups %s.", hf_job_subject(job));
}

static bool
choose_start(struct hf_catalog *catalog, const char *source, const struct hf_restore_target *target, struct wanted *ret,
             struct hf_error *err)
{
    struct choice choice = {.target = target, .later = -1};
    char text[HF_TIME_TEXT_BYTES];
    if (!hf_catalog_backups(catalog, source, false, consider, &choice, err))
        return false;
    *ret = choice.wanted;
    if (choice.found)
        return true;
    hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no proven backup that ended before that moment", source);
    if (choice.later < 0)
        return hf_fail_hint(err, "Prove one: holdfast verify %s.", source);
    return hf_fail_hint(err, "The nearest moment: %s, when the earliest proven backup ended.",
                        hf_time_format(choice.later, text));
}

/* They come newest first. */
static bool
consider(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct choice *choice = context;
    if (choice->found)
        return true;
    if (hf_restore_target_suits(choice->target, row)) {
        choice->found = true;
        return take_backup(&choice->wanted, row, err);
    }
    if (row->state == HF_BACKUP_PROVEN)
        choice->later = row->finished_at;
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

bool
hf_restore_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    _cleanup_(hf_restore_plan_freep) struct hf_restore_plan *plan = NULL;
    _cleanup_(hf_json_freep) json_t *result = json_object();
    _cleanup_(lost_list_done) struct lost_list list = {0};
    bool allow_damage;
    struct hf_restore_size size;
    struct hf_restore_outcome outcome;
    struct hf_recovery_facts facts;
    struct hf_restore_target moment;
    _cleanup_(hf_archive_freep) struct hf_archive *archive = NULL;
    _cleanup_(hf_replay_freep) struct hf_replay *replay = NULL;
    struct rest rest = {0};
    struct hf_id backup, vault;
    const char *target, *state;
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_id(request, "backup", "the request", &backup, err) ||
        !hf_json_id(request, "vault", "the request", &vault, err) ||
        !hf_json_string(request, "to", "the request", &target, err) ||
        !hf_json_string(request, "state", "the request", &state, err) ||
        !hf_json_boolean(request, "allow_damage", "the request", &allow_damage, err) ||
        !hf_restore_target_from_json(json_object_get(request, "target"), &moment, err) ||
        (allow_damage && !lost_list_begin(&list, target, err)))
        return false;

    hf_worker_progress(worker, "plan", 0, 0);
    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    const json_t *owner = json_object_get(request, "owner");
    const struct hf_restore_options options = {.workers = (unsigned)hf_worker_settings(worker)->workers,
                                               .sync = true,
                                               .owner = json_is_object(owner),
                                               .uid = (uid_t)json_integer_value(json_object_get(owner, "uid")),
                                               .gid = (gid_t)json_integer_value(json_object_get(owner, "gid")),
                                               .lost = allow_damage ? lost_list_take : NULL,
                                               .lost_context = &list,
                                               .finish = write_rest,
                                               .finish_context = &rest,
                                               .cancel = hf_worker_cancel(worker),
                                               .done = &relay.done,
                                               .total = &relay.total};
    if (!hf_open_repository(worker, &vault, &opened, err) || !read_facts(opened.vault, &backup, &facts, err) ||
        !hf_restore_plan(opened.vault, &backup, &options, &plan, &size, err))
        return refuse_damage(allow_damage, err);
    struct hf_replay_options replaying = {.facts = &facts,
                                          .target = moment.log,
                                          .timeline = moment.timeline,
                                          .action = moment.action,
                                          .owner = options.owner,
                                          .uid = options.uid,
                                          .gid = options.gid,
                                          .cancel = options.cancel};
    if (moment.wanted) {
        atomic_store(&relay.phase, "prove log");
        if (!prove_log(opened.vault, &replaying, &archive, &replay, err))
            return false;
    }
    atomic_store(&relay.phase, "write");
    if (strcmp(state, "proven") != 0)
        hf_worker_note(worker, HF_LOG_WARNING, "this backup is %s: nobody has seen it start", state);
    const struct hf_restore_needs needs = {facts.server_version_num,   facts.max_connections,
                                           facts.max_worker_processes, facts.max_wal_senders,
                                           facts.max_prepared_xacts,   facts.max_locks_per_xact};
    rest = (struct rest){plan, &needs, replay, 0};
    if (!hf_restore_write(plan, target, &outcome, err))
        return refuse_damage(allow_damage, err);
    if (replay != NULL &&
        !add_recovery(result, json_object_get(request, "target"), &facts, replay, rest.log_bytes, err))
        return false;
    if (!options.owner && geteuid() == 0)
        hf_worker_note(worker, HF_LOG_INFO,
                       "the folder belongs to root; PostgreSQL wants its own user there (next time: --owner postgres)");
    if (allow_damage && !lost_list_end(&list, result, err))
        return false;
    if (hf_loss_is_any(list.loss)) {
        hf_worker_note(worker, HF_LOG_WARNING, "parts of this backup are lost: \"%s\" lists every page", list.path);
        hf_worker_bad_news(worker);
    }
    if (!hf_json_set(result, "backup", hf_json_id_text(&backup), err) ||
        !hf_json_set(result, "state", json_string(state), err) ||
        !hf_json_set(result, "to", json_string(target), err) ||
        !hf_json_set(result, "files", json_integer((json_int_t)size.files), err) ||
        !hf_json_set(result, "bytes", json_integer((json_int_t)outcome.bytes), err) ||
        !hf_json_set(result, "bytes_opened", json_integer((json_int_t)outcome.bytes_opened), err) ||
        !hf_json_set(result, "slot", json_string(opened.slot.name), err) ||
        !hf_json_set(result, "server_version", json_string(facts.server_version), err) ||
        !hf_json_set(result, "duration_ms", json_integer((json_int_t)outcome.duration_ms), err))
        return false;
    *ret_result = HF_TAKE(result);
    return true;
}

static bool
prove_log(struct hf_vault *vault, struct hf_replay_options *options, struct hf_archive **ret_archive,
          struct hf_replay **ret, struct hf_error *err)
{
    if (!hf_archive_open(vault, NULL, ret_archive, err))
        return false;
    options->archive = *ret_archive;
    return hf_replay_prove(options, ret, err);
}

/* "recovery": the target as it was asked for, and what the folder comes to when it is started. */
static bool
add_recovery(json_t *result, const json_t *target, const struct hf_recovery_facts *backup,
             const struct hf_replay *replay, uint64_t log_bytes, struct hf_error *err)
{
    const struct hf_replay_facts proven = hf_replay_proven(replay);
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES], newest[HF_TIME_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *recovery = json_copy((json_t *)target);
    if (recovery == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    return hf_json_set(recovery, "timeline", json_integer(proven.timeline), err) &&
           hf_json_set(recovery, "from", json_string(hf_lsn_format(backup->start_lsn, from)), err) &&
           hf_json_set(recovery, "to", json_string(hf_lsn_format(proven.to, to)), err) &&
           hf_json_set(recovery, "log_bytes", json_integer((json_int_t)log_bytes), err) &&
           hf_json_set(recovery, "newest_commit_at",
                       proven.last_commit_at == 0 ? json_null()
                                                  : json_string(hf_time_format(proven.last_commit_at, newest)),
                       err) &&
           hf_json_set(result, "recovery", HF_TAKE(recovery), err);
}

/* A folder that was cut off before its log and its target were there would replay to a wrong moment. */
static bool
write_rest(void *context, const char *target, struct hf_error *err)
{
    struct rest *rest = context;
    return hf_restore_configure(rest->plan, target, rest->needs, err) &&
           (rest->replay == NULL || hf_replay_write(rest->replay, target, &rest->log_bytes, err));
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

static bool
take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    struct wanted *wanted = context;
    *wanted = (struct wanted){row->backup, row->vault, row->state};
    return true;
}

static bool
read_facts(struct hf_vault *vault, const struct hf_id *backup, struct hf_recovery_facts *ret, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_state *state;
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    if (!hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    const struct hf_vault_backup *found = hf_vault_state_backup(state, backup);
    if (found == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no backup \"%s\"", hf_id_format(backup, text));
    return hf_json_parse(found->facts, strlen(found->facts), "the backup's facts", &facts, err) &&
           hf_facts_from_json(facts, ret, err);
}
