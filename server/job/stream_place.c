#include "server/job/stream_place.h"

#include <string.h>

#include "base/json.h"
#include "base/lsn.h"
#include "server/retention/plan.h"
#include "server/source/facts.h"
#include "server/source/mariadb/binlog_archive.h"
#include "server/source/mariadb/facts.h"

static void find_mark(const struct hf_vault_state *state, const struct hf_vault_backup *backup, const json_t *facts,
                      struct hf_stream_place *ret);
static void look_at_mark(const struct hf_vault_mark *mark, const struct hf_gtid_set *start,
                         struct hf_stream_place *place);

void
hf_stream_place_find(const struct hf_vault_state *state, const struct hf_vault_backup *backup,
                     struct hf_stream_place *ret)
{
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    struct hf_shared_facts shared;
    struct hf_error unheard;
    *ret = (struct hf_stream_place){.needs = HF_RETENTION_NO_NEED};
    if (backup->facts == NULL ||
        !hf_json_parse(backup->facts, strlen(backup->facts), "the facts of a backup", &facts, &unheard) ||
        !hf_facts_read_shared(facts, &shared, &unheard))
        return;
    if (strcmp(shared.engine, "mariadb") == 0)
        find_mark(state, backup, facts, ret);
    else if (!hf_lsn_parse(shared.start_position, &ret->position, &unheard))
        ret->position = 0;
}

static void
find_mark(const struct hf_vault_state *state, const struct hf_vault_backup *backup, const json_t *facts,
          struct hf_stream_place *ret)
{
    _cleanup_(hf_gtid_set_done) struct hf_gtid_set start = {0};
    struct hf_mariadb_position position;
    struct hf_error unheard;
    const struct hf_vault_session *session = hf_vault_state_session(state, &backup->session);
    if (session == NULL || backup->source == NULL || !hf_mariadb_facts_position(facts, &position, &unheard) ||
        position.binlog_file == NULL || // it kept no log: nothing follows
        !hf_gtid_set_parse(HF_GTID_MARIADB, position.gtid, strlen(position.gtid), &start, &unheard))
        return;
    for (size_t i = 0; i < state->stretch_count; i++) {
        const struct hf_vault_stretch *stretch = &state->stretches[i];
        if (stretch->pruned || stretch->source == NULL || stretch->sequence > session->sequence ||
            strcmp(stretch->source, backup->source) != 0)
            continue;
        for (size_t at = 0; at < stretch->mark_count; at++) // one at a stretch's end would go with it
            if (stretch->marks[at].position < stretch->end && stretch->marks[at].position > ret->position)
                look_at_mark(&stretch->marks[at], &start, ret);
    }
}

static void
look_at_mark(const struct hf_vault_mark *mark, const struct hf_gtid_set *start, struct hf_stream_place *place)
{
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place marked = {0};
    struct hf_error unheard;
    if (!hf_binlog_place_parse(mark->position, mark->text, &marked, &unheard) ||
        !hf_gtid_set_contains_all(start, &marked.gtids))
        return;
    place->position = mark->position;
    place->needs = marked.format == HF_BINLOG_NO_FORMAT ? HF_RETENTION_NO_NEED : marked.format;
}
