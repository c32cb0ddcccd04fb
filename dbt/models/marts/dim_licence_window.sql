with landed as (
    select * from {{ ref("stg_landing__licences") }}
),

final as (
    select
        window_id,
        title_id,
        market,
        opens_at,
        closes_at,
        revoked,
        known_at,
        lead(known_at) over (
            partition by window_id, title_id, market order by known_at, event_time, event_id
        ) as superseded_at
    from landed
)

select * from final
