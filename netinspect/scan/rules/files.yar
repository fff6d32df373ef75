// Small text files of Windows and of others that act by being opened or looked at, under whatever name they come.

rule Script_Host_Job
{
    meta:
        description = "A job of the Windows script host"
        category = "banned-type"
        severity = 2
    strings:
        $job = /<(job|package)[\s>]/ ascii wide nocase
        $script = /<script[\s>]/ ascii wide nocase
        $host1 = "ActiveXObject" ascii wide nocase
        $host2 = "CreateObject" ascii wide nocase
        $host3 = "WScript." ascii wide nocase
    condition:
        filesize < 2MB and $job in (0..1024) and $script and any of ($host*)
}

rule Page_With_Host_Objects
{
    meta:
        description = "A page or HTML application whose script starts programs"
        category = "malware"
        severity = 2
    strings:
        $script = /<script[\s>]/ ascii wide nocase
        $object1 = /(CreateObject|ActiveXObject)\s*\(\s*["']\s*(WScript\.Shell|Shell\.Application|Scripting\.FileSystemObject|WbemScripting)/ ascii wide nocase
        $object2 = /GetObject\s*\(\s*["'](winmgmts|script|new):/ ascii wide nocase
        $run = /\.(run|exec|shellexecute|create)\b/ ascii wide nocase
    condition:
        filesize < 4MB and $script and any of ($object*) and $run
}

rule Style_Sheet_Script
{
    meta:
        description = "An XSL style sheet with a script of Microsoft's in it"
        category = "malware"
        severity = 2
    strings:
        $name = "urn:schemas-microsoft-com:xslt" ascii wide nocase
        $script = /<[a-z]{1,20}:script[\s>]/ ascii wide nocase
        $object1 = "ActiveXObject" ascii wide nocase
        $object2 = "CreateObject" ascii wide nocase
        $object3 = "System.Diagnostics" ascii wide nocase
        $object4 = "System.Reflection" ascii wide nocase
    condition:
        filesize < 4MB and $name and $script and any of ($object*)
}

rule Build_File_Command
{
    meta:
        description = "A project of MSBuild that runs commands or code of its own when it is built or opened"
        category = "exploit"
        severity = 2
    strings:
        $project = "schemas.microsoft.com/developer/msbuild" ascii wide nocase
        $task1 = /<Exec\s[^>]{0,400}Command\s*=/ ascii wide nocase
        $task2 = /TaskFactory\s*=\s*["'](CodeTaskFactory|RoslynCodeTaskFactory)/ ascii wide nocase
        $task3 = /<(PreBuildEvent|COMFileReference)[\s>]/ ascii wide nocase
        $shell = /(powershell|cmd(\.exe)? \/c|mshta|certutil|rundll32|regsvr32|Assembly\.Load|VirtualAlloc|Process\.Start)/ ascii wide nocase
    condition:
        filesize < 8MB and $project and any of ($task*) and $shell
}

rule Icon_From_Server
{
    meta:
        description = "A folder, shortcut or theme whose icon lies on another machine: looking at it sends the user's credentials"
        category = "exploit"
        severity = 2
    strings:
        $section1 = "[.ShellClassInfo]" ascii wide nocase
        $section2 = "[InternetShortcut]" ascii wide nocase
        $section3 = "[Shell]" ascii wide nocase
        $section4 = "[Theme]" ascii wide nocase
        $place = /\n[ \t]*(IconFile|IconResource|InfoTip|Logo|Wallpaper|Path|BrandImage|WorkingDirectory|BaseURL)[ \t]*=[ \t]*@?\\\\[^\\\s]/ ascii nocase
        $wide = /\n\x00(IconFile|IconResource|Wallpaper|Path|BrandImage|WorkingDirectory)=\\\\[^\\\s]/ wide nocase
    condition:
        filesize < 64KB and any of ($section*) and ($place or $wide)
}

rule Registry_Autostart
{
    meta:
        description = "A file for the registry that has a program started or takes a protection away"
        category = "malware"
        severity = 2
    strings:
        $head1 = "Windows Registry Editor Version" ascii wide nocase
        $head2 = "REGEDIT4" ascii nocase
        $key1 = "\\CurrentVersion\\Run" ascii wide nocase
        $key2 = "\\Image File Execution Options" ascii wide nocase
        $key3 = "\\CurrentVersion\\Winlogon" ascii wide nocase
        $key4 = "\\shell\\open\\command" ascii wide nocase
        $key5 = "\\Windows Defender" ascii wide nocase
        $key6 = "\\Office\\" ascii wide nocase
        $value = /(VBAWarnings|AccessVBOM|DisableAntiSpyware|DisableRealtimeMonitoring)/ ascii wide nocase
    condition:
        filesize < 4MB and ($head1 in (0..64) or $head2 in (0..64)) and (1 of ($key1, $key2, $key3, $key4) or (($key5 or $key6) and $value))
}

rule Registry_File
{
    meta:
        description = "A file that changes the registry when it is opened"
        category = "banned-type"
        severity = 3
    strings:
        $head1 = "Windows Registry Editor Version" ascii wide nocase
        $head2 = "REGEDIT4" ascii nocase
        $key = "[HKEY_" ascii wide nocase
    condition:
        ($head1 in (0..64) or $head2 in (0..64)) and $key
}

rule Setup_Information_Script
{
    meta:
        description = "A setup information file that registers a script or runs a command"
        category = "exploit"
        severity = 2
    strings:
        $section = "[Version]" ascii wide nocase
        $signature = "$CHICAGO$" ascii wide nocase
        $script = "scrobj.dll" ascii wide nocase
        $place = /https?:/ ascii wide nocase
        $before = /\n[ \t]*(RunPreSetupCommands|RunPostSetupCommands|UnRegisterOCXs)[ \t]*=/ ascii nocase
    condition:
        filesize < 1MB and $section and $signature and (($script and $place) or ($before and ($script or $place)))
}

rule Remote_Search_Connector
{
    meta:
        description = "A search connector of Windows that shows another machine's folder"
        category = "exploit"
        severity = 2
    strings:
        $connector = "<searchConnectorDescription" ascii wide nocase
        $place = /<(url|iconReference)>[^<]{0,20}(https?:|\\\\)/ ascii wide nocase
    condition:
        filesize < 256KB and $connector and $place
}

rule Csv_Formula_Function
{
    meta:
        description = "A table in text with a formula that starts a program or sends what stands in other cells away"
        category = "dde"
        severity = 2
    strings:
        $dde = /[=+\-@]\s?DDE\s?\(\s?""?[a-z]/ nocase
        $wide = /(cmd|powershell|mshta|msexcel|rundll32)'?\|'[^'\r\n]{1,200}'!/ wide nocase
        $empty = /[=+\-@](cmd|powershell|mshta|msexcel|rundll32)(\.exe)?'?\|["'][^\r\n"']{1,300}["']!["']/ nocase
        $send1 = "WEBSERVICE(" nocase
        $send2 = "IMPORTXML(" nocase
        $send3 = "IMPORTDATA(" nocase
        $send4 = "IMPORTFEED(" nocase
        $formula = /(WEBSERVICE|IMPORTXML|IMPORTDATA|IMPORTFEED)\s?\(\s?["']{0,2}[^\r\n"]{0,200}["']{1,2}\s?&/ nocase
    condition:
        filesize < 16MB and ($dde or $wide or $empty or (1 of ($send*) and $formula))
}

rule Desktop_Entry_Command
{
    meta:
        description = "A launcher of Linux desktops that runs a shell"
        category = "exploit"
        severity = 2
    strings:
        $section = "[Desktop Entry]" nocase
        $run = /\nExec[ \t]{0,4}=[^\r\n]{0,100}\b(sh|bash|python3?|perl|curl|wget|base64) /
    condition:
        filesize < 64KB and $section in (0..4096) and $run
}

rule Shell_Downloader
{
    meta:
        description = "A shell script or AppleScript that fetches something and runs it"
        category = "malware"
        severity = 2
    strings:
        $apple = "do shell script" nocase
        $fetch1 = "curl "
        $fetch2 = "wget "
        $fetch3 = "base64 -d"
        $fetch4 = "base64 -D"
        $fetch5 = "base64 --decode"
        $place = "http"
        $run = /\|[ \t]{0,4}(sudo )?(ba|z|da)?sh\b/
        $mode = "chmod +x"
        $mode2 = "chmod 7"
    condition:
        filesize < 4MB and (uint16(0) == 0x2123 or $apple)
        and ((1 of ($fetch1, $fetch2) and $place and ($run or $mode or $mode2)) or (1 of ($fetch3, $fetch4, $fetch5) and $run))
}

rule Form_Data_Script
{
    meta:
        description = "Data for a PDF form that bring a script or start a program"
        category = "exploit"
        severity = 2
    strings:
        $header = "%FDF-"
        $script = /\/(JavaScript|JS)\s*[\[(<\d]/
        $launch = /\/S\s*\/(Launch|JavaScript)\b/
    condition:
        $header in (0..1024) and ($script or $launch)
}

rule PowerShell_Text
{
    meta:
        description = "PowerShell that executes what it fetches"
        category = "malware"
        severity = 2
    strings:
        $web1 = "Net.WebClient" ascii wide nocase
        $web2 = "Invoke-WebRequest" ascii wide nocase
        $web3 = "Invoke-RestMethod" ascii wide nocase
        $get = ".Download" ascii wide nocase
        $run1 = /\bIEX[ (]/ ascii wide nocase
        $run2 = "Invoke-Expression" ascii wide nocase
        $run3 = "Start-Process" ascii wide nocase
        $run4 = "[Reflection.Assembly]::Load" ascii wide nocase
        $place = "http" ascii wide nocase
    condition:
        filesize < 2MB and $place and (($web1 and $get) or $web2 or $web3) and 1 of ($run*)
}
