<?php
// Files in a table, with PDO.
[, $table, $directory, $mode] = $argv;
$files = array_values(array_diff(scandir($directory), ['.', '..']));
$db = new PDO(sprintf('pgsql:host=%s;port=%s;dbname=%s;user=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE'), getenv('PGUSER')));
$db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$db->setAttribute(PDO::ATTR_EMULATE_PREPARES, $mode == 'emulated');
$db->setAttribute(PDO::PGSQL_ATTR_DISABLE_PREPARES, $mode == 'unprepared');

function bytes_of($content): string
{
    if ($content === null) {
        return 'null';
    }
    $type = is_resource($content) ? get_resource_type($content) : gettype($content);
    $bytes = is_resource($content) ? stream_get_contents($content) : $content;
    return sprintf('%s %d %s', $type, strlen($bytes), hash('sha256', $bytes));
}

function show(): void
{
    global $db, $table;
    foreach ($db->query("SELECT name, note, content FROM $table ORDER BY name") as $row) {
        printf("row %s %s %s\n", $row['name'], $row['note'], bytes_of($row['content']));
    }
}

function insert(string $name, string $note, $content): void
{
    global $db, $table;
    $statement = $db->prepare("INSERT INTO $table (name, note, content) VALUES (?, ?, ?)");
    $statement->bindValue(1, $name);
    $statement->bindValue(2, $note);
    $statement->bindValue(3, $content, PDO::PARAM_LOB);
    $statement->execute();
}

foreach ($files as $file) {
    insert($file, 'new', fopen("$directory/$file", 'rb'));
}
insert('null', 'new', null);
show();
printf("type %s\n", $db->query("SELECT content FROM $table")->getColumnMeta(0)['native_type']);

$find = $db->prepare("SELECT name FROM $table WHERE content = ?");
$find->bindValue(1, file_get_contents("$directory/$files[0]"), PDO::PARAM_LOB);
$find->execute();
printf("found %s\n", $find->fetchColumn());
$db->exec("UPDATE $table SET note = 'changed'");
foreach ($db->query("SELECT name, content FROM $table ORDER BY name")->fetchAll() as $row) {
    insert('copy-of-' . $row['name'], 'copied', $row['content']);
}
printf("deleted %s\n", bytes_of($db->query("DELETE FROM $table WHERE name = 'empty' RETURNING content")->fetchColumn()));
show();
