with landed as (
    select *
    from {{ source("landing", "profiles") }}
    where {{ landed_by_night() }}
),

final as (
    select
        event_id,
        event_time,
        profile_id,
        household_id,
        market,
        coalesce(is_kids, false) as is_kids,
        coalesce(maturity_limit, 0) as maturity_limit,
        coalesce(preferred_genres, array()) as preferred_genres,
        language,
        coalesce(attributes, array()) as attributes,
        received_at as known_at,
        to_date(received_at) as arrival_day
    from landed
)

select * from final
