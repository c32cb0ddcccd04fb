with plays as (
    select * from {{ ref("fct_play") }}
    where to_date(known_at) <= {{ snapshots_until() }}
),

collected as (
    select
        profile_id,
        sort_array(collect_list(
            struct(event_time, event_id, title_id, completion, rating, engaged)
        )) as plays
    from plays
    group by profile_id
),

newest as (
    select
        profile_id,
        slice(plays, greatest(size(plays) - 199, 1), 200) as history,
        transform(filter(plays, play -> play.engaged), play -> play.title_id) as watched
    from collected
),

final as (
    select
        profile_id,
        {{ midnight_after(snapshots_until()) }} as feature_time,
        {{ midnight_after(snapshots_until()) }} as known_at,
        transform(history, play -> play.title_id) as history_title_ids,
        transform(history, play -> unix_micros(play.event_time) / 1e6) as history_times,
        transform(history, play -> play.completion) as history_completion,
        transform(history, play -> play.rating) as history_rating,
        reverse(array_distinct(reverse(watched))) as watched_title_ids
    from newest
)

select * from final
