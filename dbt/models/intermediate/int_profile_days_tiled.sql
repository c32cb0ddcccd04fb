{{ config(
    materialized="incremental", incremental_strategy="insert_overwrite", partition_by=[var("grain") ~ "s(arrival_day)"]
) }}

with plays as (
    select
        plays.*,
        titles.genres
    from {{ ref("fct_play") }} as plays
    left join {{ ref("int_titles_spanned") }} as titles
        on
            plays.title_id = titles.title_id
            and plays.known_at >= titles.span_from
            and plays.known_at < titles.span_to
    where plays.known_at >= {{ changed_from() }}
),

impressions as (
    select * from {{ ref("fct_impression") }}
    where known_at >= {{ changed_from() }}
),

skips as (
    select * from {{ ref("stg_landing__skips") }}
    where arrival_day >= {{ changed_from() }}
),

events as (
    select
        profile_id, to_date(known_at) as arrival_day, 1 as plays, 0 as impressions, 0 as skips,
        cast(round(watched_seconds * 1e3) as bigint) as watched_milliseconds,
        cast(round(completion * 1e6) as bigint) as completion_millionths,
        event_time as played_at,
        genres
    from plays
    union all
    select profile_id, to_date(known_at), 0, 1, 0, null, null, null, null from impressions
    union all
    select profile_id, arrival_day, 0, 0, 1, null, null, null, null from skips
),

final as (
    select
        profile_id,
        arrival_day,
        sum(plays) as plays,
        sum(impressions) as impressions,
        sum(skips) as skips,
        coalesce(sum(watched_milliseconds), 0) as watched_milliseconds,
        coalesce(sum(completion_millionths), 0) as completion_millionths,
        count(completion_millionths) as completions,
        max(played_at) as last_play_at,
        sort_array(flatten(collect_list(genres))) as played_genres
    from events
    group by profile_id, arrival_day
)

select * from final
