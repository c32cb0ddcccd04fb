with profiles as (
    select
        *,
        row_number() over (partition by profile_id, known_at order by event_time desc, event_id desc) as place
    from {{ ref("stg_landing__profiles") }}
),

households as (
    select
        *,
        row_number() over (partition by household_id, known_at order by event_time desc, event_id desc) as place
    from {{ ref("stg_landing__households") }}
),

profile_spans as (
    select
        *,
        lead(known_at, 1, timestamp '9999-01-01') over (partition by profile_id order by known_at) as known_until
    from profiles
    where place = 1
),

household_spans as (
    select
        *,
        lead(known_at, 1, timestamp '9999-01-01') over (partition by household_id order by known_at) as known_until
    from households
    where place = 1
),

-- a household that moves makes a version of each profile that has its market from it
joined as (
    select
        profile_spans.profile_id,
        coalesce(profile_spans.household_id, profile_spans.profile_id) as household_id,
        coalesce(profile_spans.market, household_spans.market) as market,
        profile_spans.is_kids,
        profile_spans.maturity_limit,
        profile_spans.preferred_genres,
        profile_spans.language,
        profile_spans.attributes,
        greatest(profile_spans.known_at, household_spans.known_at) as known_at
    from profile_spans
    left join household_spans
        on
            profile_spans.household_id = household_spans.household_id
            and profile_spans.market is null
            and household_spans.known_at < profile_spans.known_until
            and household_spans.known_until > profile_spans.known_at
),

final as (
    select
        profile_id,
        household_id,
        market,
        is_kids,
        maturity_limit,
        preferred_genres,
        language,
        attributes,
        known_at,
        known_at as valid_from,
        lead(known_at) over (partition by profile_id order by known_at) as valid_to
    from joined
)

select * from final
