// HTML and SVG that bring a file with them or act by themselves.

rule Html_Smuggling
{
    meta:
        description = "A page that builds a file from its own script and has it saved"
        category = "smuggling"
        severity = 2
    strings:
        $make1 = "new Blob" ascii wide nocase
        $make2 = "createObjectURL" ascii wide nocase
        $make3 = "msSaveOrOpenBlob" ascii wide nocase
        $make4 = "msSaveBlob" ascii wide nocase
        $make5 = "new File(" ascii wide nocase
        $decode1 = "atob(" ascii wide nocase
        $decode2 = "Uint8Array" ascii wide nocase
        $decode3 = "charCodeAt" ascii wide nocase
        $decode4 = "fromCharCode" ascii wide nocase
        $decode5 = "fromBase64" ascii wide nocase
        $save1 = ".download" ascii wide nocase
        $save2 = "msSaveOrOpenBlob" ascii wide nocase
        $save3 = "msSaveBlob" ascii wide nocase
        $save4 = "setAttribute('download'" ascii wide nocase
        $save5 = "setAttribute(\"download\"" ascii wide nocase
        $go1 = ".click()" ascii wide nocase
        $go2 = "dispatchEvent" ascii wide nocase
        $go3 = "location.href" ascii wide nocase
        $go4 = "msSave" ascii wide nocase
        $tag = /<(script|html|body|svg|iframe)/ ascii wide nocase
    condition:
        $tag and 1 of ($make*) and 1 of ($decode*) and 1 of ($save*) and 1 of ($go*)
}

rule Html_Hidden_Page
{
    meta:
        description = "A page whose script writes another page that was encoded"
        category = "smuggling"
        severity = 3
    strings:
        $write = /document\.write(ln)?\((unescape|atob|decodeURIComponent|decodeURI|window\.atob)\(/ ascii wide nocase
        $eval = /eval\((unescape|atob|decodeURIComponent|window\.atob)\(/ ascii wide nocase
    condition:
        $write or $eval
}

rule Html_Data_Download
{
    meta:
        description = "A link that carries an archive or program and saves it"
        category = "smuggling"
        severity = 2
    strings:
        $data = /href\s*=\s*["']?data:application\/(octet-stream|zip|x-zip-compressed|x-msdownload|x-iso9660-image|x-rar|vnd\.rar|x-7z-compressed|hta|java-archive|vnd\.ms-[a-z.]+|vnd\.openxml[a-z.-]+);base64,/ ascii nocase
        $download = /\bdownload\s*=|\bdownload[ >]/ ascii nocase
    condition:
        $data and $download
}

rule Html_Program_In_Base64
{
    meta:
        description = "A page with a program or script archive in base64 in its script"
        category = "smuggling"
        severity = 2
    strings:
        // A program for Windows with the usual stub: "MZ", and "This program cannot" at one of three alignments.
        $program1 = /["'`]TV(qQ|pQ|oA|rv|ro)AAMAAAA/
        $program2 = /["'`]TV[opqr][A-Za-z0-9+\/]{90,400}(VGhpcyBwcm9ncmFt|RoaXMgcHJvZ3Jhb|UaGlzIHByb2dyYW)/
        $script = "<script" ascii nocase
    condition:
        $script and 1 of ($program*)
}

rule Protocol_Handler_Command
{
    meta:
        description = "A page or document that hands a command to a protocol of Windows"
        category = "exploit"
        severity = 2
    strings:
        $msdt = /ms-msdt:[^\r\n]{0,400}(IT_BrowseForFile|IT_RebrowseForFile|PCWDiagnostic)/ ascii wide nocase
        $office = /ms-officecmd:\{/ ascii nocase
        $search = /(href|location|src)\s*=\s*["']?search-ms:[^"'<>]{0,400}(crumb=location|subquery=)/ ascii nocase
        $installer = /(href|location)\s*=\s*["']?ms-appinstaller:\?source=/ ascii nocase
    condition:
        any of them
}

private rule Is_Svg
{
    strings:
        $svg = /<(svg:)?svg[\s>]/ ascii wide nocase
        $html = /<(html|body|head)[\s>]/ ascii wide nocase
    condition:
        $svg in (0..8192) and not $html in (0..1024)
}

rule Svg_Script
{
    meta:
        description = "A picture that has a script in it"
        category = "smuggling"
        severity = 3
    strings:
        $script = "<script" ascii wide nocase
        $event = /\son(load|click|begin|error|mouseover|focus)\s*=/ ascii wide nocase
        $url = /href\s*=\s*["']\s*(javascript|data:text\/html)/ ascii wide nocase
        $page = "<foreignObject" ascii wide nocase
    condition:
        Is_Svg and any of them
}

rule Svg_Script_Acts
{
    meta:
        description = "A picture whose script leads somewhere else or decodes something"
        category = "smuggling"
        severity = 2
    strings:
        $script = "<script" ascii wide nocase
        $event = /\son(load|begin|error)\s*=/ ascii wide nocase
        $url = /href\s*=\s*["']\s*javascript:/ ascii wide nocase
        $act1 = "window.location" ascii wide nocase
        $act2 = "document.location" ascii wide nocase
        $act3 = "location.href" ascii wide nocase
        $act4 = "location.replace" ascii wide nocase
        $act5 = "location.assign" ascii wide nocase
        $act6 = "window.open" ascii wide nocase
        $act7 = "atob(" ascii wide nocase
        $act8 = "fromCharCode" ascii wide nocase
        $act9 = "eval(" ascii wide nocase
        $act10 = "createObjectURL" ascii wide nocase
        $act11 = "document.write" ascii wide nocase
        $act12 = "createElement(\"script\"" ascii wide nocase
        $frame = /<(iframe|embed|form)[\s>]/ ascii wide nocase
        $foreign = "<foreignObject" ascii wide nocase
    condition:
        Is_Svg and ((($script or $event or $url) and 1 of ($act*)) or ($foreign and $frame))
}
