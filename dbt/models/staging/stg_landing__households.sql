with landed as (
    select *
    from {{ source("landing", "households") }}
    where {{ landed_by_night() }}
),

final as (
    select
        event_id,
        event_time,
        household_id,
        market,
        received_at as known_at,
        to_date(received_at) as arrival_day
    from landed
)

select * from final
