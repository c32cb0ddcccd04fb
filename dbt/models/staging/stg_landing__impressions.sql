with landed as (
    select *
    from {{ source("landing", "impressions") }}
    where {{ landed_by_night() }}
),

final as (
    select
        event_id,
        event_time,
        slate_id,
        profile_id,
        household_id,
        title_id,
        position,
        propensity,
        coalesce(explored, false) as explored,
        release_id,
        surface,
        device,
        experiment,
        arm,
        received_at as known_at,
        to_date(received_at) as arrival_day
    from landed
)

select * from final
