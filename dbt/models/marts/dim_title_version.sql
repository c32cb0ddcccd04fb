with landed as (
    select * from {{ ref("stg_landing__titles") }}
),

effective as (
    select
        *,
        greatest(valid_from, known_at) as effective_from
    from landed
),

-- of several versions from one moment only the last one known ever holds
numbered as (
    select
        *,
        row_number() over (
            partition by title_id, effective_from order by known_at desc, event_time desc, event_id desc
        ) as place
    from effective
),

final as (
    select
        title_id,
        effective_from as valid_from,
        lead(effective_from) over (partition by title_id order by effective_from) as valid_to,
        known_at,
        name,
        kind,
        synopsis,
        coalesce(genres, array()) as genres,
        coalesce(credits, array()) as credits,
        language,
        year,
        runtime_minutes,
        maturity,
        series_id,
        launched_at
    from numbered
    where place = 1
)

select * from final
