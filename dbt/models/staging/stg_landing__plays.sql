with landed as (
    select *
    from {{ source("landing", "plays") }}
    where {{ landed_by_night() }}
),

final as (
    select
        event_id,
        event_time,
        profile_id,
        title_id,
        watched_seconds,
        runtime_seconds,
        rating,
        slate_id,
        surface,
        device,
        received_at as known_at,
        to_date(received_at) as arrival_day
    from landed
)

select * from final
