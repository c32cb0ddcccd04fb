{{ config(
    materialized="incremental", incremental_strategy="insert_overwrite", partition_by=[var("grain") ~ "s(snapshot_day)"]
) }}

{%- set sums = ["plays", "impressions", "skips", "slate_plays", "completion_millionths", "completions"] %}

with tiles as (
    select * from {{ ref("int_title_days_tiled") }}
),

titles as (
    select title_id, to_date(min(known_at)) as first_day from {{ ref("dim_title_version") }}
    group by title_id
),

-- 29 days before the first snapshot, so that its windows are full
days as (
    select explode(sequence(date_sub({{ snapshots_from() }}, 29), {{ snapshots_until() }})) as day
),

grid as (
    select
        titles.title_id, titles.first_day, days.day,
        {% for name in sums %}coalesce(tiles.{{ name }}, 0) as {{ name }},{% endfor %}
        coalesce(tiles.rating_thousandths, 0) as rating_thousandths,
        coalesce(tiles.ratings, 0) as ratings
    from titles
    cross join days
    left join tiles on titles.title_id = tiles.title_id and days.day = tiles.arrival_day
),

windowed as (
    select
        title_id, day, first_day,
        plays as plays_1d,
        sum(plays) over last_7_days as plays_7d,
        sum(impressions) over last_7_days as impressions_7d,
        sum(skips) over last_7_days as skips_7d,
        {% for name in sums %}sum({{ name }}) over last_30_days as {{ name }}_30d,{% endfor %}
        sum(rating_thousandths) over until_day as rating_thousandths,
        sum(ratings) over until_day as ratings
    from grid
    window
        last_7_days as (partition by title_id order by day rows between 6 preceding and current row),
        last_30_days as (partition by title_id order by day rows between 29 preceding and current row),
        until_day as (partition by title_id order by day rows between unbounded preceding and current row)
),

-- ratings count for ever: those that had arrived before the grid begins
ratings_before as (
    select title_id, sum(rating_thousandths) as rating_thousandths, sum(ratings) as ratings from tiles
    where arrival_day < date_sub({{ snapshots_from() }}, 29)
    group by title_id
),

all_ratings as (
    select
        day,
        sum(rating_thousandths) over (order by day) / sum(ratings) over (order by day) as mean_thousandths
    from (
        select arrival_day as day, sum(rating_thousandths) as rating_thousandths, sum(ratings) as ratings from tiles
        where ratings > 0
        group by arrival_day
    )
),

global_mean as (
    select days.day, max_by(all_ratings.mean_thousandths, all_ratings.day) / 1e3 as mean
    from days
    inner join all_ratings on days.day >= all_ratings.day
    group by days.day
),

rated as (
    select
        windowed.*,
        windowed.ratings + coalesce(ratings_before.ratings, 0) as rating_count,
        (windowed.rating_thousandths + coalesce(ratings_before.rating_thousandths, 0)) / 1e3 as rating_sum,
        global_mean.mean
    from windowed
    left join ratings_before on windowed.title_id = ratings_before.title_id
    left join global_mean on windowed.day = global_mean.day
    where windowed.day >= {{ snapshots_from() }} and windowed.day >= windowed.first_day
),

final as (
    select
        title_id,
        day as snapshot_day,
        {{ midnight_after("day") }} as feature_time,
        {{ midnight_after("day") }} as known_at,
        cast(plays_1d as int) as plays_1d,
        cast(plays_7d as int) as plays_7d,
        cast(plays_30d as int) as plays_30d,
        completion_millionths_30d / 1e6 / nullif(completions_30d, 0) as completion_30d,
        cast(impressions_7d as int) as impressions_7d,
        cast(impressions_30d as int) as impressions_30d,
        cast(if(
            impressions_30d > 0,
            (slate_plays_30d + {{ var("play_rate_prior_plays") }})
            / (impressions_30d + {{ var("play_rate_prior_impressions") }}),
            null
        ) as double) as play_rate_30d,
        cast(skips_7d as int) as skips_7d,
        cast(if(
            rating_count > 0,
            (rating_sum + {{ var("rating_prior_count") }} * mean) / (rating_count + {{ var("rating_prior_count") }}),
            null
        ) as double) as rating_mean
    from rated
)

select * from final
