{{ config(
    materialized="incremental", incremental_strategy="insert_overwrite", partition_by=[var("grain") ~ "s(snapshot_day)"]
) }}

with tiles as (
    select * from {{ ref("int_profile_days_tiled") }}
    where arrival_day > date_sub({{ snapshots_from() }}, 31)
),

-- a snapshot only where a window changes: what arrived on a day enters on it and leaves 7 and 30 days later
snapshots as (
    select distinct profile_id, date_add(arrival_day, age) as day
    from tiles
    lateral view explode(array(0, 7, 30)) as age
    where date_add(arrival_day, age) between {{ snapshots_from() }} and {{ snapshots_until() }}
),

in_window as (
    select
        snapshots.profile_id, snapshots.day,
        tiles.arrival_day > date_sub(snapshots.day, 7) as is_recent,
        tiles.plays, tiles.impressions, tiles.skips, tiles.watched_milliseconds,
        tiles.completion_millionths, tiles.completions, tiles.last_play_at, tiles.played_genres
    from snapshots
    inner join tiles
        on
            snapshots.profile_id = tiles.profile_id
            and tiles.arrival_day > date_sub(snapshots.day, 30)
            and tiles.arrival_day <= snapshots.day
),

summed as (
    select
        profile_id, day,
        sum(if(is_recent, plays, 0)) as plays_7d,
        sum(plays) as plays_30d,
        sum(watched_milliseconds) as watched_milliseconds_30d,
        sum(completion_millionths) / 1e6 / nullif(sum(completions), 0) as completion_30d,
        sum(if(is_recent, skips, 0)) as skips_7d,
        sum(if(is_recent, impressions, 0)) as impressions_7d,
        max(last_play_at) as last_play_at
    from in_window
    group by profile_id, day
),

genre_counts as (
    select profile_id, day, genre, count(*) as plays
    from in_window
    lateral view explode(played_genres) as genre
    group by profile_id, day, genre
),

-- most played first, ties by name
genres as (
    select
        profile_id, day, sum(plays) as plays,
        slice(sort_array(collect_list(struct(-plays as less_played, genre))), 1, 5) as top
    from genre_counts
    group by profile_id, day
),

final as (
    select
        snapshots.profile_id,
        snapshots.day as snapshot_day,
        {{ midnight_after("snapshots.day") }} as feature_time,
        {{ midnight_after("snapshots.day") }} as known_at,
        cast(coalesce(summed.plays_7d, 0) as int) as plays_7d,
        cast(coalesce(summed.plays_30d, 0) as int) as plays_30d,
        cast(coalesce(summed.watched_milliseconds_30d, 0) / 3.6e6 as double) as watch_hours_30d,
        summed.completion_30d,
        cast(coalesce(summed.skips_7d, 0) as int) as skips_7d,
        cast(coalesce(summed.impressions_7d, 0) as int) as impressions_7d,
        transform(genres.top, one -> one.genre) as top_genres_30d,
        transform(genres.top, one -> cast(-one.less_played / genres.plays as double)) as top_genre_shares_30d,
        summed.last_play_at
    from snapshots
    left join summed on snapshots.profile_id = summed.profile_id and snapshots.day = summed.day
    left join genres on snapshots.profile_id = genres.profile_id and snapshots.day = genres.day
)

select * from final
