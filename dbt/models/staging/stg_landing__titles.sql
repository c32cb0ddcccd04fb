with landed as (
    select *
    from {{ source("landing", "titles") }}
    where {{ landed_by_night() }}
),

final as (
    select
        event_id,
        event_time,
        title_id,
        valid_from,
        name,
        kind,
        synopsis,
        genres,
        credits,
        language,
        year,
        runtime_minutes,
        maturity,
        series_id,
        launched_at,
        received_at as known_at,
        to_date(received_at) as arrival_day
    from landed
)

select * from final
