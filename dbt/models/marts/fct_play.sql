{{ config(
    materialized="incremental", incremental_strategy="insert_overwrite", partition_by=[var("grain") ~ "s(known_at)"]
) }}

with landed as (
    select * from {{ ref("stg_landing__plays") }}
    where arrival_day >= {{ changed_from() }}
),

-- the runtime as it was known with the play, so that a later version of the title changes no history
titles as (
    select * from {{ ref("int_titles_spanned") }}
),

measured as (
    select
        landed.*,
        landed.watched_seconds / nullif(coalesce(landed.runtime_seconds, titles.runtime_seconds), 0) as watched_share
    from landed
    left join titles
        on
            landed.title_id = titles.title_id
            and landed.known_at >= titles.span_from
            and landed.known_at < titles.span_to
),

final as (
    select
        event_id,
        profile_id,
        title_id,
        event_time,
        known_at,
        to_date(event_time) as event_day,
        watched_seconds,
        if(watched_share > 1, 1.0D, watched_share) as completion,  -- least() would make 1 of an unknown share
        rating,
        slate_id,
        surface,
        device,
        coalesce(watched_share >= 0.5, true) as engaged
    from measured
)

select * from final
