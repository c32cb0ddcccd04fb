with versions as (
    select * from {{ ref("dim_title_version") }}
),

spanned as (
    select
        title_id,
        genres,
        runtime_minutes * 60 as runtime_seconds,
        case
            when row_number() over (partition by title_id order by valid_from) = 1 then timestamp '1900-01-01'
            else valid_from
        end as span_from,
        coalesce(valid_to, timestamp '9999-01-01') as span_to
    from versions
),

final as (
    select * from spanned
)

select * from final
