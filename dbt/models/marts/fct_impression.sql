{{ config(
    materialized="incremental", incremental_strategy="insert_overwrite", partition_by=[var("grain") ~ "s(known_at)"]
) }}

with plays as (
    select * from {{ ref("fct_play") }}
    where slate_id is not null
),

skips as (
    select * from {{ ref("stg_landing__skips") }}
    where slate_id is not null
),

{% if is_incremental() %}
-- a play that arrives tonight is the outcome of an impression that may have arrived long before
changed_slates as (
    select slate_id from plays
    where known_at >= {{ changed_from() }}
    union
    select slate_id from skips
    where arrival_day >= {{ changed_from() }}
),

-- whole partitions are overwritten
changed_partitions as (
    select distinct {{ partition_of("arrival_day") }} as partition_day from {{ ref("stg_landing__impressions") }}
    where
        arrival_day >= {{ changed_from() }}
        or slate_id in (select slate_id from changed_slates)
),
{% endif %}

impressions as (
    select * from {{ ref("stg_landing__impressions") }}
    {% if is_incremental() %}
    where {{ partition_of("arrival_day") }} in (select partition_day from changed_partitions)
    {% endif %}
),

outcomes as (
    select slate_id, profile_id, title_id, max(grade) as grade, max(skipped) as skipped
    from (
        select
            slate_id, profile_id, title_id, 0 as skipped,
            case when completion >= 0.9 then 3 when engaged then 2 else 1 end as grade
        from plays
        union all
        select slate_id, profile_id, title_id, 1, 0 from skips
    )
    group by slate_id, profile_id, title_id
),

final as (
    select
        impressions.event_id,
        impressions.slate_id,
        impressions.profile_id,
        impressions.household_id,
        impressions.title_id,
        impressions.position,
        impressions.propensity,
        impressions.explored,
        impressions.release_id,
        impressions.surface,
        impressions.device,
        impressions.experiment,
        impressions.arm,
        impressions.event_time,
        impressions.known_at,
        to_date(impressions.event_time) as event_day,
        if(outcomes.skipped = 1, 0, coalesce(outcomes.grade, 0)) as engagement
    from impressions
    left join outcomes
        on
            impressions.slate_id = outcomes.slate_id
            and impressions.profile_id = outcomes.profile_id
            and impressions.title_id = outcomes.title_id
)

select * from final
