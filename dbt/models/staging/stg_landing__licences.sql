with landed as (
    select *
    from {{ source("landing", "licences") }}
    where {{ landed_by_night() }}
),

final as (
    select
        event_id,
        event_time,
        window_id,
        title_id,
        market,
        opens_at,
        closes_at,
        coalesce(revoked, false) as revoked,
        received_at as known_at,
        to_date(received_at) as arrival_day
    from landed
)

select * from final
