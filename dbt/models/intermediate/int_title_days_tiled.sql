{{ config(
    materialized="incremental", incremental_strategy="insert_overwrite", partition_by=[var("grain") ~ "s(arrival_day)"]
) }}

-- sums are of whole numbers (millionths, thousandths): adding doubles in another order gives other last bits
with plays as (
    select * from {{ ref("fct_play") }}
    where known_at >= {{ changed_from() }}
),

impressions as (
    select * from {{ ref("fct_impression") }}
    where known_at >= {{ changed_from() }}
),

skips as (
    select * from {{ ref("stg_landing__skips") }}
    where arrival_day >= {{ changed_from() }}
),

ratings as (
    select * from {{ ref("stg_landing__ratings") }}
    where arrival_day >= {{ changed_from() }}
),

events as (
    select
        title_id, to_date(known_at) as arrival_day, 1 as plays, 0 as impressions, 0 as skips,
        if(slate_id is null, 0, 1) as slate_plays,
        cast(round(completion * 1e6) as bigint) as completion_millionths,
        cast(round(rating * 1e3) as bigint) as rating_thousandths
    from plays
    union all
    select title_id, to_date(known_at), 0, 1, 0, 0, null, null from impressions
    union all
    select title_id, arrival_day, 0, 0, 1, 0, null, null from skips
    union all
    select title_id, arrival_day, 0, 0, 0, 0, null, cast(round(rating * 1e3) as bigint) from ratings
),

final as (
    select
        title_id,
        arrival_day,
        sum(plays) as plays,
        sum(impressions) as impressions,
        sum(skips) as skips,
        sum(slate_plays) as slate_plays,
        coalesce(sum(completion_millionths), 0) as completion_millionths,
        count(completion_millionths) as completions,
        coalesce(sum(rating_thousandths), 0) as rating_thousandths,
        count(rating_thousandths) as ratings
    from events
    group by title_id, arrival_day
)

select * from final
