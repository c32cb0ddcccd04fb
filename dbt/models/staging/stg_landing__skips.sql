with landed as (
    select *
    from {{ source("landing", "skips") }}
    where {{ landed_by_night() }}
),

final as (
    select
        event_id,
        event_time,
        profile_id,
        title_id,
        slate_id,
        received_at as known_at,
        to_date(received_at) as arrival_day
    from landed
)

select * from final
